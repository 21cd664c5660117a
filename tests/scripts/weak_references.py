"""References of weakref's subclasses, made in the loop: their constructors do not take the object that they refer to."""

import weakref

import torch

torch.manual_seed(0)


class Listener:
    def __init__(self, name: str) -> None:
        self.name = name

    def told(self) -> str:
        return self.name


net = torch.nn.Linear(64, 64)
listeners: list[Listener] = []
methods: list[weakref.WeakMethod] = []
for epoch in range(4):
    if epoch % 2 == 0:
        listeners.append(Listener(f"l{epoch}"))
        methods.append(weakref.WeakMethod(listeners[-1].told))
    for _ in range(20):
        loss = net(torch.randn(64, 64)).pow(2).mean()
        loss.backward()
        #+print("inner", epoch, loss.item())
    #+print("outer", epoch, [m()() for m in methods])
    print(epoch, len(methods))
#+print("end", [m()() for m in methods])
