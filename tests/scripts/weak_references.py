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
for epoch in range(6):
    if epoch % 2 == 0:
        listeners.append(Listener(f"l{epoch}"))
        methods.append(weakref.WeakMethod(listeners[-1].told))
    for _ in range(5):
        loss = net(torch.randn(64, 64)).pow(2).mean()
        loss.backward()
        #+inner print("@@ inner", epoch, loss.item())
    #+outer print("@@ outer", epoch, [m()() for m in methods], methods[0]._meth_type.__name__)
    print(epoch, len(methods))
#+end print("@@ end", [m()() for m in methods])
