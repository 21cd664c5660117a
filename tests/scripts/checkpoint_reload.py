"""Checkpoints are written, rotated and read back in mid-run; at the end the best one is reloaded."""
import os

import torch

torch.manual_seed(4)
os.makedirs("out", exist_ok=True)
X, Y = torch.randn(32, 3), torch.randn(32, 1)
net = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.9, momentum=0.5)
best = float("inf")
if os.path.exists("out/snapshot.pt"):
    print("resuming")
    net.load_state_dict(torch.load("out/snapshot.pt")["net"])
for epoch in range(8):
    for step in range(4):
        loss = (net(X[step * 8 : step * 8 + 8]) - Y[step * 8 : step * 8 + 8]).pow(2).mean() + 0.1 * torch.rand(1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        #+inner print("@@ inner", epoch, step, repr(loss.item()))
    torch.save({"net": net.state_dict(), "epoch": epoch}, f"out/epoch{epoch}.pt")
    if epoch >= 2:
        os.remove(f"out/epoch{epoch - 2}.pt")
    if loss.item() < best:
        best = loss.item()
        torch.save({"net": net.state_dict()}, "out/snapshot.pt")
    elif epoch % 2:
        net.load_state_dict(torch.load("out/snapshot.pt")["net"])
    with open("out/log.txt", "a") as file:
        file.write(f"{epoch} {loss.item():.9f}\n")
    #+outer print("@@ outer", epoch, repr(best), sorted(os.listdir("out")), repr(net.weight.sum().item()))
    print(f"{epoch} {best:.6f}")
net.load_state_dict(torch.load("out/snapshot.pt")["net"])
print(f"best {net.weight.sum().item():.8f}", sum(1 for _ in open("out/log.txt")))
