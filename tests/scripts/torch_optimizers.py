"""Every optimizer of torch.optim in every implementation that runs on the CPU, schedulers, averaged models and a gradient scaler.

# quick: none
"""
import warnings

import torch
from torch.optim import lr_scheduler, swa_utils

warnings.simplefilter("ignore")
torch.manual_seed(0)
x, y = torch.randn(8, 3), torch.randn(8, 1)


def net():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1, bias=False))


def works(cls, **options):
    model = net()
    try:
        optimizer = cls(model.parameters(), lr=0.01, **options)
        model(x).sum().backward()
        optimizer.step()
    except (TypeError, ValueError, RuntimeError, AssertionError):
        return False
    return True


special = ("Optimizer", "SparseAdam", "LBFGS", "Muon")
classes = {name: cls for name, cls in vars(torch.optim).items() if isinstance(cls, type) and name not in special}
pairs = {}
for name in sorted(classes):
    for option in ("", "foreach", "fused", "capturable"):
        options = {option: True} if option else {}
        if works(classes[name], **options):
            model = net()
            pairs[name + option] = (model, classes[name](model.parameters(), lr=0.01, **options))
model = net()
pairs["LBFGS"] = (model, torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3))
if hasattr(torch.optim, "Muon"):
    model = net()
    pairs["Muon"] = (model, torch.optim.Muon([model[0].weight, model[2].weight], lr=0.01))
embedding = torch.nn.Embedding(5, 2, sparse=True)
sparse = torch.optim.SparseAdam(embedding.parameters())
of = {name: optimizer for name, (_, optimizer) in pairs.items()}
S = lr_scheduler
schedulers = [
    S.SequentialLR(of["SGD"], [S.ConstantLR(of["SGD"]), S.ExponentialLR(of["SGD"], 0.9)], [2]),
    S.ChainedScheduler([S.LinearLR(of["AdamW"]), S.CosineAnnealingLR(of["AdamW"], 5)]),
    S.LambdaLR(of["Adam"], lambda epoch: 0.9**epoch),
    S.ReduceLROnPlateau(of["RMSprop"], patience=0),
    S.OneCycleLR(of["Adagrad"], 0.1, total_steps=20, cycle_momentum=False),
    S.CyclicLR(of["SGDforeach"], 0.01, 0.1, step_size_up=2, cycle_momentum=False),
    S.CosineAnnealingWarmRestarts(of["NAdam"], 2),
    S.StepLR(of["RAdam"], 2),
    S.MultiStepLR(of["Rprop"], [1, 3]),
    S.PolynomialLR(of["ASGD"]),
    S.MultiplicativeLR(of["Adamax"], lambda epoch: 0.95),
]
average = swa_utils.AveragedModel(pairs["Adam"][0])
moving = swa_utils.AveragedModel(pairs["AdamW"][0], multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9))
swa = swa_utils.SWALR(of["Adadelta"], 0.05)
scaler = torch.amp.GradScaler("cpu")


def account():
    models = [*(model for model, _ in pairs.values()), embedding, average, moving]
    rates = [group["lr"] for optimizer in of.values() for group in optimizer.param_groups]
    return repr([sum(p.sum().item() for p in model.parameters()) for model in models] + rates)


for epoch in range(4):
    for step in range(2):
        for name, (model, optimizer) in pairs.items():

            def closure(model=model, optimizer=optimizer):
                optimizer.zero_grad()
                loss = (model(x) - y).square().mean()
                loss.backward()
                return loss

            if name == "SGD":
                optimizer.zero_grad()
                scaler.scale((model(x) - y).square().mean()).backward()
                scaler.step(optimizer)
                scaler.update()
            else:
                optimizer.step(closure)
        sparse.zero_grad()
        embedding(torch.randint(5, (3,))).sum().backward()
        sparse.step()
        #+inner print("@@ inner", epoch, step, account(), scaler.get_scale())
    for scheduler in schedulers:
        if isinstance(scheduler, S.ReduceLROnPlateau):
            scheduler.step(float(epoch))
        else:
            scheduler.step()
    average.update_parameters(pairs["Adam"][0])
    moving.update_parameters(pairs["AdamW"][0])
    swa.step()
    #+outer print("@@ outer", epoch, account(), embedding.weight.grad.to_dense().tolist())
    print(epoch, len(pairs), account()[:60])
