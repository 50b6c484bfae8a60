#!/usr/bin/env python3
"""Workloads S1-S10 for `obleth simulate`, and the judge of their goals.

  scenarios.py write FOLDER SEED...           writes FOLDER/s1-0.scenario.json, FOLDER/s1-0.trace.jsonl, ...
  scenarios.py judge FOLDER BINARY SEED...    replays them, prints one table, ends with 1 when a goal is missed

Arrivals are Poisson, lengths lognormal; a pool has 32 slots unless said otherwise, 5000 prompt tokens a second and
50 output tokens a second in each slot. Standard library only; the same seed gives the same bytes.

  OBLETH_WORKLOADS="s3 s8"    only these workloads
  OBLETH_THETA_PERCENT=50     another churn floor than the gateway's
  OBLETH_S8_FROM=0            S8's longest wait from this second on; 20 is the beginning of its window
"""
import bisect
import json
import math
import os
import random
import subprocess
import sys
from collections import defaultdict

PREFILL, DECODE = 5000, 50


class Workload:
    """Tenants with their weights, and their requests."""

    def __init__(self, seed, seconds, slots=32):
        self.dice = random.Random(seed)
        self.seconds, self.slots = seconds, slots
        self.tenants, self.groups, self.models, self.requests = {}, {}, {}, []

    def tenant(self, name, weight=100, group=None, cap=None):
        self.tenants[name] = {"name": name, "weight": weight, "group": group, "max_in_flight": cap}

    def length(self, mean, sigma):
        return max(1, int(self.dice.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)))

    def arrivals(self, rate, start, end):
        at = start
        while (at := at + self.dice.expovariate(rate)) < end:
            yield at

    def request(self, at, tenant, prompt=200, output=200, sigma=0.6, most=1024, model="m"):
        output = self.length(output, sigma)
        most = most(output) if callable(most) else most
        self.requests.append({"at_s": round(at, 6), "tenant": tenant, "model": model,
                              "prompt_tokens": self.length(prompt, 0.5), "output_tokens": min(output, most),
                              "max_tokens": most, "cancel_after_s": None})

    def stream(self, tenant, rate, start=0, end=None, **shape):
        for at in self.arrivals(rate, start, end or self.seconds):
            self.request(at, tenant, **shape)

    def light(self, rate=0.1, weight=100, group=None, model="m"):
        self.tenant("L", weight, group)
        self.stream("L", rate, output=60, model=model)

    def write(self, stem):
        models = sorted({request["model"] for request in self.requests})
        scenario = {"slots": self.slots, "prefill_tokens_per_s": PREFILL, "decode_tokens_per_s": DECODE,
                    "duration_s": self.seconds,
                    "groups": [{"name": name, "weight": weight} for name, weight in self.groups.items()],
                    "models": [{"name": name, "max_in_flight": self.models.get(name)} for name in models],
                    "tenants": list(self.tenants.values()), "default_tenant": {"weight": 100}}
        if theta := os.environ.get("OBLETH_THETA_PERCENT"):
            scenario["theta_percent"] = int(theta)
        self.requests.sort(key=lambda request: request["at_s"])
        with open(stem + ".scenario.json", "w") as file:
            json.dump(scenario, file)
        with open(stem + ".trace.jsonl", "w") as file:
            file.writelines(json.dumps(request) + "\n" for request in self.requests)


def s1(seed):
    """Weights 10:1 both flood, and a light tenant."""
    w = Workload(seed, 240)
    w.tenant("A", 1000)
    w.tenant("B")
    w.stream("A", 12)
    w.stream("B", 60)
    w.light(0.15)
    return w


def s2(seed):
    """A tenant that did little comes back at 200 s."""
    w = Workload(seed, 400)
    w.tenant("A")
    w.tenant("B")
    w.stream("A", 14)
    w.stream("B", 14 * 0.3, 0, 30)
    w.stream("B", 14, 200)
    return w


def s3(seed):
    """Eight equal tenants with heavy tails, one with answers seven times as long."""
    w = Workload(seed, 400)
    for k in range(8):
        w.tenant(str(k))
        w.stream(str(k), 5 if k else 4, output=120 if k else 800, sigma=1.4, most=8192)
    w.light()
    return w


def s4(seed):
    """Two tenants ask for max_tokens 8192, two for about what they need; each is capped at 24."""
    w = Workload(seed, 300)
    for k in range(4):
        w.tenant(str(k), cap=24)
        w.stream(str(k), 5, sigma=0.5, most=8192 if k < 2 else lambda output: int(output * 1.1) + 8)
    w.light()
    return w


def s5(seed):
    """Models capped at 4 and 28: one tenant floods the narrow one, one the wide one, one uses both."""
    w = Workload(seed, 300)
    w.models = {"X": 4, "Y": 28}
    for name in "ABC":
        w.tenant(name)
    w.stream("A", 8, model="X")
    w.stream("B", 9, model="Y")
    w.stream("C", 9, model="Y")
    w.stream("C", 1, model="X")
    w.light(0.15, model="Y")
    return w


def s6(seed):
    """A group of one tenant against a group of twenty, and a nearly idle group of twice their weight."""
    w = Workload(seed, 300)
    w.groups = {"lab": 100, "prod": 100, "ops": 200}
    for k in range(20):
        w.tenant(str(k), group="lab")
        w.stream(str(k), 2)
    w.tenant("P", group="prod")
    w.stream("P", 12)
    w.tenant("Q", group="ops")
    w.stream("Q", 0.6, output=100)
    return w


def s7(seed):
    """Ten thousand tenants, Zipf 1.1, load 1.4, 256 slots."""
    w, count = Workload(seed, 120, slots=256), 10_000
    for k in range(count):
        w.tenant(str(k))
    sums, total = [], 0.0
    for k in range(count):
        total += 1 / (k + 1) ** 1.1
        sums.append(total)
    for at in w.arrivals(1.4 * w.slots / 1.04, 0, w.seconds):
        k = min(count - 1, bisect.bisect(sums, w.dice.random() * total))
        w.request(at, str(k), output=50, sigma=0.8)
    return w


def s8(seed):
    """Tenants without end that send one request each, against a steady one."""
    w = Workload(seed, 200)
    w.tenant("H")
    for k, at in enumerate(w.arrivals(9, 0, w.seconds)):
        w.request(at, f"c{k}")
    w.stream("H", 4)
    return w


def s9(seed):
    """Tiny prompts, answers of a thousand tokens; a fourth sender joins at 150 s."""
    w = Workload(seed, 500)
    for k in range(4):
        w.tenant(str(k))
        rate, start = (1.2, 0) if k < 3 else (1.5, 150)
        w.stream(str(k), rate, start, prompt=20, output=1000, sigma=0.5, most=8192)
    w.light()
    return w


def s10(seed, groups=False):
    """A narrow pool shared 10:1 while a wide one is flooded."""
    w = Workload(seed, 300)
    w.models = {"X": 4, "Y": 28}
    w.groups = {"p": 1000, "q": 100, "r": 100} if groups else {}
    of = dict(zip("ABC", "pqr")) if groups else {}
    for name, rate, model in (("A", 4, "X"), ("B", 4, "X"), ("C", 16, "Y")):
        w.tenant(name, 1000 if name == "A" and not groups else 100, of.get(name))
        w.stream(name, rate, model=model)
    w.light(weight=100 if groups else 1000, group=of.get("A"), model="X")
    return w


def s10g(seed):
    """The same with groups of 10:1."""
    return s10(seed, groups=True)


WORKLOADS = {"s1": s1, "s2": s2, "s3": s3, "s4": s4, "s5": s5, "s6": s6, "s7": s7, "s8": s8, "s9": s9, "s10": s10,
             "s10g": s10g}
# The window of the workload begins when the pool has filled; a wait that runs by then counts from there.
S8_FROM = int(os.environ.get("OBLETH_S8_FROM", 20))
CHOSEN = os.environ.get("OBLETH_WORKLOADS", "").split() or list(WORKLOADS)


class Run:
    """A replayed workload: its report, and what its events tell of a window of time."""

    def __init__(self, folder, binary, name, seed, algorithm):
        stem, self.events = os.path.join(folder, f"{name}-{seed}"), os.path.join(folder, "events.jsonl")
        command = [binary, "simulate", "--scenario", stem + ".scenario.json", "--trace", stem + ".trace.jsonl",
                   "--algorithm", algorithm, "--events", self.events, "--json"]
        self.report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        self.tenants = {tenant["name"]: tenant for tenant in self.report["tenants"]}
        with open(stem + ".trace.jsonl") as file:
            self.trace = [json.loads(line) for line in file]
        with open(stem + ".scenario.json") as file:
            scenario = json.load(file)
        self.end = scenario["duration_s"]
        self.weights = {tenant["name"]: tenant["weight"] / 100 for tenant in scenario["tenants"]}
        self.arrived, self.granted, self.order = {}, {}, []
        with open(self.events) as file:
            for line in file:
                event = json.loads(line)
                if event["event"] == "enqueue":
                    self.arrived[event["id"]] = event["t"]
                elif event["event"] == "grant":
                    self.granted[event["id"]] = event["t"]
                    self.order.append((event["t"], event["id"]))

    def streamed(self, start, end, tenant=None, model=None):
        """Tokens per tenant that came out in a window; the prompt counts when it has been read."""
        tokens = defaultdict(float)
        for at, place in self.order:
            request = self.trace[place]
            if (tenant and request["tenant"] != tenant) or (model and request["model"] != model):
                continue
            first = at + request["prompt_tokens"] / PREFILL
            out = request["output_tokens"]
            share = min(max((end - first) * DECODE, 0), out) - min(max((start - first) * DECODE, 0), out)
            tokens[request["tenant"]] += share + request["prompt_tokens"] * (start <= first < end)
        return tokens

    def jain(self, tenants, start, entitled=None):
        """Of service over entitlement, from `start` to the end."""
        tokens = self.streamed(start, self.end)
        xs = [tokens[t] / (entitled or self.weights)[t] for t in tenants]
        return sum(xs) ** 2 / (len(xs) * sum(x * x for x in xs))

    def gap(self, tenants, start):
        """The largest difference of service per weight since `start`, at the ends of prompts and answers."""
        steps = []  # Time, tenant, tokens that come at once, change of the rate.
        for at, place in self.order:
            request = self.trace[place]
            first = at + request["prompt_tokens"] / PREFILL
            if request["tenant"] in tenants:
                steps.append((first, request["tenant"], request["prompt_tokens"], DECODE))
                steps.append((first + request["output_tokens"] / DECODE, request["tenant"], 0, -DECODE))
        had, rate = {t: 0.0 for t in tenants}, {t: 0 for t in tenants}
        now, widest = start, 0.0
        for at, tenant, tokens, change in sorted(steps):
            if at > self.end:
                break
            if at > now:
                had = {t: had[t] + rate[t] * (at - now) / self.weights[t] for t in tenants}
                now = at
            if at >= start:
                widest = max(widest, max(had.values()) - min(had.values()))
                had[tenant] += tokens / self.weights[tenant]
                widest = max(widest, max(had.values()) - min(had.values()))
            rate[tenant] += change
        return widest

    def granted_gap(self, tenants, start):
        """The same with each request counted as a whole when it is granted: what the bound speaks of."""
        had, widest = {t: 0.0 for t in tenants}, 0.0
        for at, place in self.order:
            request = self.trace[place]
            if at >= start and request["tenant"] in had:
                tokens = request["prompt_tokens"] + request["output_tokens"]
                had[request["tenant"]] += tokens / self.weights[request["tenant"]]
                widest = max(widest, max(had.values()) - min(had.values()))
        return widest

    def mean(self, tenants):
        sizes = [r["prompt_tokens"] + r["output_tokens"] for r in self.trace if r["tenant"] in tenants]
        return sum(sizes) / len(sizes)

    def waits(self, tenants, start):
        """Waits of these tenants; who still waits at the end counts with the time so far."""
        return [self.granted.get(place, self.end) - at for place, at in self.arrived.items()
                if at >= start and self.trace[place]["tenant"] in tenants]

    def dry(self, tenant, start):
        """The longest time from `start` on in which the tenant waited and had no grant, and when it ended."""
        changes = [(at, 1, 1) for place, at in self.arrived.items() if self.trace[place]["tenant"] == tenant]
        changes += [(at, 2, -1) for at, place in self.order if self.trace[place]["tenant"] == tenant]
        waiting, since, longest = 0, start, (0.0, start)
        for at, _, change in sorted(changes) + [(self.end, 3, 0)]:
            if waiting and at > since:
                longest = max(longest, (at - since, at))
            if change <= 0 or not waiting:
                since = max(start, at)
            waiting += change
        return longest

    def joined(self, tenant, rivals, at):
        """Seconds after `at` from which every 10 s window has the tenant within 15 % of an equal share."""
        fair, last = 1 / len(rivals), 0.0
        for step in range(int(2 * (self.end - at - 12))):
            start = at + step / 2
            tokens = self.streamed(start, start + 10)
            part = tokens[tenant] / sum(tokens[t] for t in rivals)
            if abs(part / fair - 1) > 0.15:
                last = step / 2 + 0.5
        return last

    def weight_at(self, moment):
        """Weights active at a moment: tenants that wait or run."""
        active = set()
        for place, at in self.arrived.items():
            request, grant = self.trace[place], self.granted.get(place, self.end)
            held = request["prompt_tokens"] / PREFILL + request["output_tokens"] / DECODE
            if at <= moment <= grant + held:
                active.add(request["tenant"])
        return sum(self.weights.get(t, 1.0) for t in active)


def at_least(what, measured, limit):
    return what, f"{measured:.4f} >= {limit:g}", measured >= limit


def at_most(what, measured, limit):
    return what, f"{measured:.3f} <= {limit:g}", measured <= limit


def within(what, measured, wanted, percent):
    return what, f"{measured:.3f} = {wanted:g} +- {percent} %", abs(measured / wanted - 1) * 100 <= percent


# The tenants that send little, since when their waits count, and the most that their p99 may be, in seconds.
LIGHT = {"s1": ({"L"}, 0, 2.5), "s3": ({"L"}, 0, 2.5), "s7": ({str(k) for k in range(200, 10_000)}, 40, 0.15),
         "s10": ({"L"}, 0, 5), "s10g": ({"L"}, 0, 5)}


def p99(waits):
    return sorted(waits)[math.ceil(len(waits) * 0.99) - 1]


def goals(name, run, fifo):
    """What is asked of a workload: (goal, measured, met)."""
    tokens = run.streamed(30, run.end)
    if name == "s1":
        tokens = run.streamed(20, run.end)
        yield at_least("Jain", run.jain("AB", 20), 0.999)
        yield within("A:B tokens", tokens["A"] / tokens["B"], 10, 2)
        yield at_most("gap, mean requests", run.gap("AB", 20) / run.mean("AB"), 3.5)
    elif name == "s2":
        yield at_most("joiner at its share, s", run.joined("B", "AB", 200), 2)
        yield at_most("incumbent without a grant, s", run.dry("A", 200)[0], 2)
    elif name == "s3":
        eight = [str(k) for k in range(8)]
        yield at_least("Jain", run.jain(eight, 40), 0.999)
        yield at_most("gap", run.gap(eight, 40), 8000)
    elif name == "s4":
        four = [str(k) for k in range(4)]
        yield at_least("Jain", run.jain(four, 30), 0.999)
        yield at_most("gap", run.gap(four, 30), 2500)
    elif name == "s5":
        yield at_least("Jain", run.jain("BC", 30), 0.999)
        yield at_least("usable slots used", run.report["work_conservation"], 0.999)
    elif name == "s6":
        lab = [str(k) for k in range(20)]
        tokens = run.streamed(40, run.end)
        entitled = {**{t: 1 / 20 for t in lab}, "P": 1.0}
        yield at_least("entitled Jain", run.jain(lab + ["P"], 40, entitled), 0.999)
        yield at_least("usable slots used", run.report["work_conservation"], 0.999)
        yield within("prod:lab tokens", tokens["P"] / sum(tokens[t] for t in lab), 1, 3)
    elif name == "s8":
        longest, when = run.dry("H", S8_FROM)
        rate = run.report["served_tokens"] / run.end
        limit = 4 * run.mean(set(run.tenants)) * run.weight_at(when) / rate
        yield at_most("longest without a grant, s", longest, round(limit, 3))
    elif name == "s9":
        four = [str(k) for k in range(4)]
        yield at_most("longest without a grant, s", max(run.dry(t, 150)[0] for t in four), 25)
        yield at_most("gap", run.gap(four, 150), 12_000)
    elif name.startswith("s10"):
        yield at_least("A:B tokens on X", tokens["A"] / tokens["B"], 9 if name == "s10" else 8.5)
    if name != "s8":  # One-shot tenants have no pairs that wait for long.
        gap = run.report["tightest_gap"]
        if gap:
            yield at_most("gap over its bound", gap["tokens"] / gap["bound_tokens"], 1)
    yield at_least("work conservation", run.report["work_conservation"], 1)
    if name in ("s1", "s2", "s4"):  # Elsewhere the mix of lengths, pools or requests served changes with the order.
        yield at_least("tokens of FIFO", run.report["served_tokens"] / fifo.report["served_tokens"], 0.985)


def judge(folder, binary, seeds):
    """One line for each goal and seed. A light tenant sends some forty requests a run, too few for a 99th percentile:
    its waits are taken together over the seeds."""
    missed = defaultdict(list)

    def tell(name, seed, goal, measured, met):
        print(f"{name.upper():5} {seed:>10}  {goal:34} {measured:28} {'ok' if met else 'FAILED'}", flush=True)
        if not met:
            missed[f"{name.upper()} {goal}"].append(seed)

    print(f"{'':5} {'seed':>10}  {'goal':34} {'measured':28}")
    for name in CHOSEN:
        light, light_fifo = [], []
        for seed in seeds:
            run = Run(folder, binary, name, seed, "hr-sfq")
            fifo = Run(folder, binary, name, seed, "fifo") if name in ("s1", "s2", "s4", "s7") else None
            for goal in goals(name, run, fifo):
                tell(name, seed, *goal)
            if name in LIGHT:
                light += run.waits(*LIGHT[name][:2])
                light_fifo += fifo.waits(*LIGHT[name][:2]) if fifo else []
        if light:
            against = f" (FIFO {p99(light_fifo):.0f})" if light_fifo else ""
            tell(name, "all", *at_most(f"light p99 s{against}", p99(light), LIGHT[name][2]))
    for goal, of in missed.items():
        print(f"missed in {len(of)} of {len(seeds)} runs: {goal} {of}")
    return not missed


def main():
    if len(sys.argv) > 3 and sys.argv[1] == "write":
        for seed in map(int, sys.argv[3:]):
            for name in CHOSEN:
                WORKLOADS[name](seed).write(os.path.join(sys.argv[2], f"{name}-{seed}"))
    elif len(sys.argv) > 4 and sys.argv[1] == "judge":
        sys.exit(0 if judge(sys.argv[2], sys.argv[3], [int(seed) for seed in sys.argv[4:]]) else 1)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
