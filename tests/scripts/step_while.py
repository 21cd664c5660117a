"""A `while True` of steps with a break, one loader iterator for the whole run, evaluation every few steps (nanoGPT's style)."""
import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1)
X = torch.randn(80, 6)
Y = (X[:, :1] * X[:, 1:2]).sign()
loader = DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True)
net = torch.nn.Sequential(torch.nn.Linear(6, 24), torch.nn.Tanh(), torch.nn.Linear(24, 1))
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)


def evaluate():
    net.eval()
    with torch.no_grad():
        value = sum(torch.nn.functional.mse_loss(net(x), y).item() for x, y in loader)
    net.train()
    return value


step, best = 0, 1e9
batches = iter(loader)
while True:
    if step % 6 == 0:
        loss_now = evaluate()
        if loss_now < best:
            best = loss_now
        #+every print("@@ every", step, repr(loss_now), repr(best))
        print(f"step {step} {loss_now:.5f}")
    try:
        x, y = next(batches)
    except StopIteration:
        batches = iter(loader)
        x, y = next(batches)
    loss = torch.nn.functional.mse_loss(net(x), y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    #+step print("@@ step", step, repr(loss.item()))
    step += 1
    if step > 24:
        break
print("best", f"{best:.6f}")
