"""Classes whose special methods all print when they run, those of the metaclass included: nothing of ours may call one."""

import torch

torch.manual_seed(0)
NAMES = """repr str bytes format lt le eq ne gt ge hash bool getattr setattr delattr dir get set delete len length_hint getitem setitem delitem
missing iter next reversed contains call enter exit add radd iadd mul int float complex index round copy deepcopy reduce reduce_ex getstate
setstate getnewargs getnewargs_ex sizeof instancecheck subclasscheck subclasshook del fspath array await aiter""".split()


def loud(name: str):
    def method(self, *args, **options):
        print("ran", name, end=" ")
        if name in ("instancecheck", "subclasscheck", "bool", "contains"):
            return False
        if name in ("hash", "len", "length_hint", "sizeof", "int", "index"):
            return 1
        if name in ("eq", "lt", "le", "gt", "ge", "ne"):
            return self is args[0]
        if name in ("repr", "str", "format", "fspath"):
            return name
        if name == "getattr":
            raise AttributeError(args[0])
        if name == "setattr":
            type.__setattr__(self, *args) if type in type.__mro__[:1] and type.__instancecheck__(type, self) else object.__setattr__(self, *args)
        return None

    return method


def told(base: type):
    def get(self, name):
        print("ran getattribute", name, end=" ")
        return base.__getattribute__(self, name)

    return get


LOUD = {f"__{name}__": loud(name) for name in NAMES}
Meta = type("Meta", (type,), {**LOUD, "__getattribute__": told(type)})
Loud = type.__new__(Meta, "Loud", (), {**LOUD, "__getattribute__": told(object), "__module__": "__main__"})
Slotted = type.__new__(Meta, "Slotted", (), {**LOUD, "__slots__": ("items", "other"), "__module__": "__main__"})
Mapping = type.__new__(Meta, "Mapping", (dict,), {**LOUD, "__getattribute__": told(dict), "__module__": "__main__"})
Several = type.__new__(Meta, "Several", (list,), {**LOUD, "__getattribute__": told(list), "__module__": "__main__"})

one, two = object.__new__(Loud), object.__new__(Slotted)
three, four = dict.__new__(Mapping), list.__new__(Several)
object.__setattr__(one, "items", [])
object.__setattr__(two, "items", [])
born = []
net = torch.nn.Linear(32, 32)
for epoch in range(6):
    for _ in range(5):
        loss = net(torch.randn(32, 32)).pow(2).mean()
        loss.backward()
        #+inner print("@@ inner", epoch, loss.item())
    object.__getattribute__(one, "items").append(epoch)
    object.__getattribute__(two, "items").append(loss.item())
    dict.__setitem__(three, epoch, one)
    list.append(four, two)
    if epoch % 2:
        made = object.__new__(Loud)
        object.__setattr__(made, "items", [epoch])
        born.append(made)
    #+outer print("@@ outer", epoch, object.__getattribute__(one, "items"), dict.__len__(three))
    print(epoch, list.__len__(four), [object.__getattribute__(x, "items") for x in born])
#+end print("@@ end", object.__getattribute__(two, "items"))
