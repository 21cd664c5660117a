"""Two nets, two optimizers, a fixed noise tensor, labels flipped in place (dcgan's style)."""
import torch
import torch.nn as nn

torch.manual_seed(999)
G = nn.Sequential(nn.Linear(4, 16), nn.LeakyReLU(0.2), nn.Linear(16, 2))
D = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1), nn.Sigmoid())
fixed = torch.randn(8, 4)
optD = torch.optim.Adam(D.parameters(), lr=2e-3, betas=(0.5, 0.999))
optG = torch.optim.Adam(G.parameters(), lr=2e-3, betas=(0.5, 0.999))
criterion = nn.BCELoss()
for epoch in range(4):
    for i in range(6):
        D.zero_grad()
        real = torch.randn(16, 2) * 0.5 + 1
        label = torch.full((16,), 1.0)
        errD_real = criterion(D(real).view(-1), label)
        errD_real.backward()
        fake = G(torch.randn(16, 4))
        label.fill_(0.0)
        errD_fake = criterion(D(fake.detach()).view(-1), label)
        errD_fake.backward()
        optD.step()
        G.zero_grad()
        label.fill_(1.0)
        errG = criterion(D(fake).view(-1), label)
        errG.backward()
        #+inner print("@@ inner", epoch, i, repr(errG.item()), repr(sum(p.grad.abs().sum().item() for p in G.parameters())))
        optG.step()
    #+outer print("@@ outer", epoch, repr((errD_real + errD_fake).item()), repr(G(fixed).mean().item()))
    print(f"[{epoch}] {errG.item():.4f} {G(fixed).detach().mean().item():.4f}")
