"""A model that changes while it is trained: parametrizations made before and in the loop, lazy modules, tied and flattened weights,
parameters and buffers replaced, layers unfrozen, added and removed, hooks that hold state put on and taken off, gradients
accumulated across epochs.

# quick: outer
"""
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

torch.manual_seed(0)


class Halved(nn.Module):
    def forward(self, x):
        return x / 2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lazy = nn.LazyLinear(6)
        self.norm = nn.LazyBatchNorm1d()
        self.body = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.normed = nn.Sequential(weight_norm(nn.Linear(6, 6)), spectral_norm(nn.Linear(6, 6)), orthogonal(nn.Linear(6, 6)))
        self.back = nn.Linear(6, 6)
        self.back.weight = self.body[0].weight  # tied
        self.rows = nn.ParameterList(torch.randn(2, 6).unbind())  # both in one storage
        self.head = nn.Linear(6, 2)
        self.extra = nn.ModuleList()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        x = self.back(self.normed(self.body(self.norm(self.lazy(x))))) + self.rows[0] * self.rows[1]
        for layer in self.extra:
            x = x + layer(x)
        return self.head(x)


class Counter:
    """A hook that holds state."""

    def __init__(self):
        self.calls, self.last = 0, None

    def __call__(self, module, args, output):
        self.calls += 1
        self.last = output.detach().mean()

    def scaled(self, grad):
        return grad * 0.5


net = Net()
counter = Counter()
handles = {"forward": net.body.register_forward_hook(counter)}
scales = []
x, y = torch.randn(16, 4), torch.randn(16, 2)
optimizer = None
frozen = [net.head.weight, net.head.bias]
for parameter in frozen:
    parameter.requires_grad_(False)
for epoch in range(7):
    if optimizer is None:
        net(x)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    if epoch == 1:
        spectral_norm(net.body[0])
        parametrize.register_parametrization(net.head, "weight", Halved())
    if epoch == 2:
        net.extra.append(orthogonal(nn.Linear(6, 6)))
        optimizer.add_param_group({"params": net.extra[0].parameters(), "lr": 0.01})
        handles["grad"] = net.body[0].bias.register_hook(counter.scaled)
        handles["post"] = net.lazy.bias.register_post_accumulate_grad_hook(lambda p: scales.append(p.grad.sum().item()))
        net.register_buffer("seen", torch.ones(3))
    if epoch == 1:
        handles["all"] = nn.modules.module.register_module_forward_hook(lambda module, args, output: scales.append(type(module).__name__))
    if epoch == 4:
        handles.pop("all").remove()
    if epoch == 3:
        for parameter in net.head.parameters():
            parameter.requires_grad_(True)
        handles.pop("forward").remove()
        net.norm.register_buffer("seen", net.seen)
        net.state = net._register_state_dict_hook(lambda module, state, prefix, local: state.update(epoch=torch.tensor(epoch)))
    if epoch == 4:
        parametrize.remove_parametrizations(net.body[0], "weight")
        weight_norm(net.body[0])
        with torch.no_grad():
            net.lazy.weight = nn.Parameter(net.lazy.weight * 2)
        optimizer.param_groups[0]["params"][0] = net.lazy.weight
        net.body.add_module("late", nn.PReLU())
    if epoch == 5:
        del net.extra[0]
        handles["forward"] = net.body.register_forward_hook(counter)
        handles["grad"].remove()
    for step in range(3):
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        #+inner print("@@ inner", epoch, step, repr(loss.item()), net.rows[0].data_ptr() + 24 == net.rows[1].data_ptr(), counter.calls, counter.last, len(scales), sum(p.grad.abs().sum().item() for p in net.parameters() if p.grad is not None))
        if step == 1:
            optimizer.step()
            net.seen += 1
    if epoch % 2:
        optimizer.zero_grad(set_to_none=epoch % 4 == 1)
    #+outer print("@@ outer", epoch, net.back.weight is net.body[0]._parameters.get("weight"), type(net.body[0]).__name__, type(net.lazy).__name__, list(net.state_dict()), len(scales), [p.requires_grad for p in net.head.parameters()], repr(loss.item()), [h.id for h in handles.values()], list(dict(net.named_modules())))
    print(epoch, f"{loss.item():.8f}", counter.calls, sum(p.numel() for p in net.parameters()))
