"""Hindsight statements in a helper module, in a method called from the loop, and before and after the loop.
# env: PYTHONHASHSEED=0
"""
from lib import engine
from lib.model import Model

model = Model(4)
#+before print("@@ before", repr(model.weights))
engine.configure(rate=0.2)
result = engine.run(model, epochs=5, steps=6)
print("result", f"{result:.12f}")
#+after print("@@ after", repr(model.weights), engine.calls)
