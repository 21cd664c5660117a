"""LBFGS: the step is a closure that the optimizer calls, and counts its calls through nonlocal."""
import torch


def main():
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 30)[:, None].double()
    y = torch.sin(3 * x) + 0.05 * torch.randn(30, 1).double()
    net = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.8, max_iter=4)
    calls = 0
    for i in range(6):

        def closure():
            nonlocal calls
            calls += 1
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(net(x), y)
            loss.backward()
            #+closure print("@@ closure", i, calls, repr(loss.item()))
            return loss

        loss = optimizer.step(closure)
        #+outer print("@@ outer", i, calls, repr(loss.item()), repr(net[0].weight.sum().item()))
        print(f"{i} {loss.item():.10f}")


main()
