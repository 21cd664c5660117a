"""GradScaler and autocast on the CPU; the scaler keys its state by id(optimizer); gradients are accumulated over two batches."""
import torch

torch.manual_seed(5)
X, Y = torch.randn(64, 8), torch.randn(64, 1)
net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=5)
optimizer.zero_grad()
for epoch in range(5):
    for step in range(4):
        index = torch.randint(64, (16,))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = torch.nn.functional.mse_loss(net(X[index]).float(), Y[index]) / 2
        scaler.scale(loss).backward()
        if step % 2 == 0:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=False)
        #+inner print("@@ inner", epoch, step, repr(loss.item()), scaler.get_scale(), repr(net[0].weight.grad.norm().item()))
    #+outer print("@@ outer", epoch, scaler.get_scale(), repr(net[2].bias.item()), repr(net[0].weight.grad.sum().item()))
    print(f"{epoch} {loss.item():.5f} {scaler.get_scale()}")
