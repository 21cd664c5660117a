"""Autograd graphs used after the loop, and after the iteration, in which they were built: REINFORCE, accumulated losses."""
import torch
import torch.nn as nn

torch.manual_seed(11)
policy = nn.Linear(3, 2)
optimizer = torch.optim.SGD(policy.parameters(), lr=0.05)
pending = 0.0
for episode in range(8):
    log_probabilities, rewards = [], []
    for t in range(6):
        state = torch.randn(3)
        choice = torch.distributions.Categorical(logits=policy(state))
        action = choice.sample()
        log_probabilities.append(choice.log_prob(action))
        rewards.append(float(action == (state.sum() > 0)))
        #+inner print("@@ inner", episode, t, repr(log_probabilities[-1].item()), rewards)
    pending = pending - sum(p * r for p, r in zip(log_probabilities, rewards))
    if episode % 3 == 2:
        optimizer.zero_grad()
        pending.backward()
        optimizer.step()
        pending = 0.0
    #+outer print("@@ outer", episode, sum(rewards), repr(policy.weight.abs().sum().item()), repr(float(pending)))
    print(f"episode {episode}: {sum(rewards):.0f}")
