calls = 0
settings = {}


def configure(**options):
    settings.update(options)


def step(model):
    global calls
    calls += 1
    gradient = model.gradient()
    model.weights = [w - settings["rate"] * g for w, g in zip(model.weights, gradient)]
    #+helper print("@@ helper", calls, repr(model.norm))


def run(model, epochs, steps):
    for epoch in range(epochs):
        for _ in range(steps):
            step(model)
        settings["rate"] *= 0.7
        #+engine print("@@ engine", epoch, calls, repr(settings["rate"]), repr(model.norm))
        print("epoch", epoch, f"{model.norm:.9f}")
    return model.norm
