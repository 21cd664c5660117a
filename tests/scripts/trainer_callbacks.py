"""A trainer with callbacks, an exponential moving average of the weights and early stopping by `break` (with an `else:`)."""
import copy

import torch
import torch.nn as nn

torch.manual_seed(3)


class Callback:
    def on_epoch_end(self, trainer, epoch):
        raise NotImplementedError


class History(Callback):
    def __init__(self):
        self.rows = {}

    def on_epoch_end(self, trainer, epoch):
        self.rows[epoch] = {"loss": trainer.loss, "lr": trainer.optimizer.param_groups[0]["lr"]}
        #+callback print("@@ callback", epoch, {k: repr(v) for k, v in self.rows[epoch].items()})


class EarlyStopping(Callback):
    def __init__(self, patience):
        self.patience, self.best, self.bad = patience, float("inf"), 0

    def on_epoch_end(self, trainer, epoch):
        self.bad = self.bad + 1 if trainer.validation > self.best - 0.02 else 0
        self.best = min(self.best, trainer.validation)
        trainer.stop = self.bad >= self.patience


class EMA:
    __slots__ = ("decay", "shadow")

    def __init__(self, net, decay=0.9):
        self.decay, self.shadow = decay, copy.deepcopy(net).requires_grad_(False)

    @torch.no_grad()
    def update(self, net):
        for a, b in zip(self.shadow.parameters(), net.parameters()):
            a.lerp_(b, 1 - self.decay)


class Trainer:
    def __init__(self, callbacks):
        self.net = nn.Sequential(nn.Linear(5, 16), nn.GELU(), nn.Linear(16, 1))
        self.ema = EMA(self.net)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, patience=1)
        self.callbacks = callbacks
        self.stop = False

    def fit(self, x, y, epochs):
        for epoch in range(epochs):
            self.loss = 0.0
            for index in torch.randperm(len(x)).split(20):
                loss = nn.functional.mse_loss(self.net(x[index]), y[index])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.ema.update(self.net)
                self.loss += loss.item()
                #+inner print("@@ inner", epoch, repr(self.loss))
            with torch.no_grad():
                self.validation = nn.functional.mse_loss(self.ema.shadow(x), y).item()
            self.scheduler.step(self.validation)
            for callback in self.callbacks:
                callback.on_epoch_end(self, epoch)
            #+outer print("@@ outer", epoch, repr(self.validation), self.callbacks[1].bad, repr(self.ema.shadow[0].weight.norm().item()))
            print(f"epoch {epoch} {self.validation:.5f}")
            if self.stop:
                print("stopped early")
                break
        else:
            print("all epochs")
        return epoch


x = torch.randn(100, 5)
history = History()
last = Trainer([history, EarlyStopping(2)]).fit(x, x[:, :1] - x[:, 1:2], 30)
print(last, len(history.rows))
#+after print("@@ after", last, repr(history.rows[last]["loss"]))
