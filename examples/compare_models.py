"""From chance to a network on one data set: is a network worth it?"""

import thalweg

ladder = thalweg.ladder("digits", minutes=0.5, rungs=("chance", "knn", "ridge", "softmax", "mlp"))
for rung in ladder.rungs:
    print(f"{rung.title:24} {rung.score:.3f}  ({rung.low:.3f} to {rung.high:.3f})")
print(f"stop at: {ladder.stop_at or 'undecided'}")
print(f"page: {ladder.path / 'ladder.html'}")
