"""Q-learning on a toy environment: a deque as the replay buffer, epsilon-greedy, a target net, `while not done`."""
import random
from collections import deque, namedtuple

import torch
import torch.nn as nn

random.seed(0)
torch.manual_seed(0)
Transition = namedtuple("Transition", "state action reward following done")


class Corridor:
    """Walk right to the end of a corridor; the wind blows."""

    def __init__(self, length, rng):
        self.length, self.rng, self.position = length, rng, 0

    def reset(self):
        self.position, self.time = 0, 0
        return self.observe()

    def observe(self):
        return torch.tensor([self.position / self.length, self.time / 20])

    def step(self, action):
        self.time += 1
        self.position = max(0, self.position + (1 if action else -1) - (self.rng.random() < 0.2))
        done = self.position >= self.length or self.time >= 20
        return self.observe(), float(self.position >= self.length), done


def make():
    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))


env = Corridor(6, random.Random(5))
policy, target = make(), make()
target.load_state_dict(policy.state_dict())
optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
memory = deque(maxlen=60)
returns = []
for episode in range(8):
    state, done, total = env.reset(), False, 0.0
    while not done:
        if random.random() < max(0.1, 0.9 - 0.1 * episode):
            action = random.randrange(2)
        else:
            with torch.no_grad():
                action = int(policy(state).argmax())
        following, reward, done = env.step(action)
        memory.append(Transition(state, action, reward, following, done))
        state, total = following, total + reward - 0.01
        if len(memory) >= 16:
            batch = Transition(*zip(*random.sample(memory, 16)))
            q = policy(torch.stack(batch.state)).gather(1, torch.tensor(batch.action)[:, None])[:, 0]
            with torch.no_grad():
                best = target(torch.stack(batch.following)).max(1).values
                goal = torch.tensor(batch.reward) + 0.95 * best * (1 - torch.tensor(batch.done).float())
            loss = nn.functional.smooth_l1_loss(q, goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            #+inner print("@@ inner", episode, env.time, repr(loss.item()), len(memory))
    if episode % 3 == 2:
        target.load_state_dict(policy.state_dict())
    returns.append(total)
    #+outer print("@@ outer", episode, repr(total), len(memory), memory[0].action, repr(policy[0].weight.norm().item()))
    print(f"episode {episode} return {total:.3f}")
