#!/usr/bin/env python3
"""Simulates how evenly chatbots of very different size fall on shards, and shards on nodes, without a server.

    python3 bench/shards.py

The k-th largest chatbot has a share proportional to k**-s (Zipf). A chatbot falls on a random shard, as by a hash,
and shards are dealt to nodes in turns, as Citus does. The output is the load of the fullest one divided by the mean:
1 is even, and the fullest node decides how many nodes are needed. It has the median and the extremes of as many
placements as there are SEEDS.
"""
import heapq, itertools, random, statistics

SEEDS = range(21)


def shares(chatbots, s):
    weights = [k**-s for k in range(1, chatbots + 1)]
    whole = sum(weights)
    return [w / whole for w in weights]


def by_hash(sizes, shards, nodes, seed):
    """Returns (fullest shard, fullest node), each divided by the mean."""
    chance = random.Random(seed)
    of_shards = [0.0] * shards
    for size in sizes:
        of_shards[chance.randrange(shards)] += size
    of_nodes = [sum(of_shards[node::nodes]) for node in range(nodes)]
    return max(of_shards) * shards, max(of_nodes) * nodes


def rebalanced(sizes, shards, nodes, seed, alone=0):
    """Returns the fullest node divided by the mean when the largest chatbots have a shard each
    (isolate_tenant_to_new_shard) and shards are dealt by size, the largest first, to the emptiest node (similar to
    the rebalancer's by_disk_size)."""
    chance = random.Random(seed)
    of_shards = [0.0] * shards
    for size in sizes[alone:]:
        of_shards[chance.randrange(shards)] += size
    of_nodes = [0.0] * nodes
    heapq.heapify(of_nodes)
    for size in sorted(itertools.chain(of_shards, sizes[:alone]), reverse=True):
        heapq.heapreplace(of_nodes, of_nodes[0] + size)
    return max(of_nodes) * nodes


def median_and_extremes(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main():
    print("chatbots  s    largest | shards nodes | fullest shard          fullest node           by size               largest 10 alone")
    for chatbots, s in [(10_000, 0.8), (10_000, 1.0), (10_000, 1.2), (100_000, 1.0)]:
        sizes = shares(chatbots, s)
        for shards, nodes in [(32, 2), (32, 8), (128, 2), (128, 8), (512, 8), (512, 32)]:
            found = [by_hash(sizes, shards, nodes, seed) for seed in SEEDS]
            dealt = [rebalanced(sizes, shards, nodes, seed) for seed in SEEDS]
            alone = [rebalanced(sizes, shards, nodes, seed, alone=10) for seed in SEEDS]
            print(f"{chatbots:>8} {s:>3} {sizes[0]:>9.1%} | {shards:>6} {nodes:>5} | {median_and_extremes([f[0] for f in found]):<22} "
                  f"{median_and_extremes([f[1] for f in found]):<22} {median_and_extremes(dealt):<21} {median_and_extremes(alone)}", flush=True)


main()
