"""One pass over a DataLoader is the whole run: no epochs, no inner loop."""
import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(11)
loader = DataLoader(TensorDataset(torch.randn(96, 4), torch.randn(96, 1)), batch_size=8, shuffle=True)
net = torch.nn.Linear(4, 1)
optimizer = torch.optim.RMSprop(net.parameters(), lr=0.01)
running = None
for x, y in loader:
    loss = torch.nn.functional.mse_loss(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    running = loss.item() if running is None else 0.9 * running + 0.1 * loss.item()
    #+step print("@@ step", repr(running), repr(net.weight.grad.norm().item()))
print(f"{running:.6f}")
