"""`best = net` before the loop and `best = deepcopy(net)` in it: matching by place would put best's weights into net."""
import copy

import torch

torch.manual_seed(2)
X, Y = torch.randn(40, 4), torch.randn(40, 1)
net = torch.nn.Linear(4, 1)
best, best_loss = net, float("inf")
optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.8)
act = torch.sigmoid
xb = X[:10]
for epoch in range(6):
    if epoch == 2:
        act = torch.tanh
    for step in range(4):
        xb = X[step * 10 : step * 10 + 10] if step % 2 else xb * 1.01
        loss = (act(net(xb)) - Y[step * 10 : step * 10 + 10]).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        #+inner print("@@ inner", epoch, step, act.__name__, repr(loss.item()))
    if loss.item() < best_loss and epoch != 4:
        best, best_loss = copy.deepcopy(net), loss.item()
    #+outer print("@@ outer", epoch, best is net, repr(best.weight.sum().item()), repr(net.weight.sum().item()), repr(X.sum().item()), act.__name__)
    print(f"{epoch} {best_loss:.6f}")
print(f"{best.weight.sum().item():.6f} {X.sum().item():.6f}")
