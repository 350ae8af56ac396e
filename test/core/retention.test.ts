/** What a mirror destroys: by its own rules only, and never what somebody still needs (design §9). */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Departed, KeepRule, Properties } from '../../src/core/events.ts';
import { type Difference, difference } from '../../src/core/graph/difference.ts';
import { type Dataset, EMPTY_GRAPH, Graph } from '../../src/core/graph/graph.ts';
import { MOVED_PROPERTY } from '../../src/core/graph/lineage.ts';
import {
  type DatasetId,
  lineageId,
  lineageName,
  type RelativeName,
  ROOT_STAND_IN,
  type SnapshotGuid,
  type SnapshotName,
} from '../../src/core/ids.ts';
import { departureKey, departures } from '../../src/core/plan/departures.ts';
import { EVERYTHING, wantedGraph } from '../../src/core/plan/filter.ts';
import { plan } from '../../src/core/plan/plan.ts';
import { firstDue } from '../../src/core/plan/retention.ts';
import type { Plan, PlanInput, Retention } from '../../src/core/plan/steps.ts';
import { apply } from './apply-plan.ts';
import { arbitraryHistory, grow, startForest } from './forest.ts';
import { FOREVER, graph, REPLICA, SELF } from './graph-language.ts';
import { inWords } from './step-words.ts';

const NOW = Date.parse('2026-06-01');
const HOUR_MS = 3_600_000;

/** Everything that has departed was noticed so long ago. */
function noticed(ago: number): Pick<Retention, 'now' | 'noticedAt'> {
  return { now: NOW, noticedAt: () => NOW - ago };
}

function planFor(source: Graph, local: Graph, rules: Partial<Retention>, more: Partial<PlanInput> = {}): Plan {
  const retention = { ...FOREVER, ...noticed(HOUR_MS), ...rules };
  const wanted = wantedGraph(source, { ...EVERYTHING, keep: retention.keep }, { local, now: retention.now });
  return plan({ ...REPLICA, source, wanted, local, retention, ...more });
}

/** A replica whose snapshots all came from its owner. */
function received(replica: Graph): Graph {
  const datasets = Array.from(replica.datasets, ([id, dataset]): [DatasetId, Dataset] => [
    id,
    { ...dataset, received: dataset.snapshots.at(-1)?.guid ?? null },
  ]);
  return new Graph(replica.root, new Map(datasets));
}

function stays({ retained }: Plan): string[] {
  return retained.map(({ name, snapshot, reason }) => `${name}${snapshot === null ? '' : `@${snapshot}`} ${reason}`);
}

function guidOf(one: Graph, place: string): SnapshotGuid {
  const [name, label] = place.split('@');
  const found = one.named(name as RelativeName)?.snapshots.find((snapshot) => snapshot.name === label);
  return found?.guid ?? expect.fail();
}

function guidsOf(one: Graph, id: DatasetId): SnapshotGuid[] {
  return one.get(id)?.snapshots.map(({ guid }) => guid) ?? [];
}

/** Whether it departed behind the newest snapshot in common, where the replica stands: it stays until its owner goes on. */
function isBehindCommon(found: Difference, source: Graph, local: Graph): boolean {
  if (found.kind !== 'snapshot-extra') return false;
  const guids = guidsOf(local, found.dataset);
  const there = new Set(allGuids(source));
  return guids.indexOf(found.guid) > guids.findLastIndex((guid) => there.has(guid));
}

function allGuids(one: Graph): SnapshotGuid[] {
  return [...one.datasets.keys()].flatMap((id) => guidsOf(one, id));
}

const AT_ONCE = { graceMs: 0 };

describe('what an owner destroyed', () => {
  const before = received(graph('. @r', 'a @1 @2 @3', 'b @1', 'b/c @1'));
  const source = graph('. @r', 'a @3');

  it('stays for ever unless told otherwise', () => {
    expect(planFor(source, before, { graceMs: null })).toMatchObject({ steps: [], retained: [] });
  });

  it('stays until the grace period is over, and the plan says how long', () => {
    const planned = planFor(source, before, { graceMs: 3 * HOUR_MS });
    expect(planned.steps).toEqual([]);
    expect(stays(planned)).toEqual(['b/c grace', 'b depended-on', 'a@1 grace', 'a@2 grace']);
    expect(firstDue(planned.retained)).toBe(NOW + 2 * HOUR_MS);
  });

  it('goes afterwards, children before what they lie in', () => {
    const planned = planFor(source, before, { graceMs: HOUR_MS });
    expect(planned.steps.map(inWords)).toEqual([
      'destroy b/c',
      'destroy b',
      'destroy a@1: departed',
      'destroy a@2: departed',
    ]);
    expect(planned.retained).toEqual([]);
  });

  it('begins its grace period only once it was noticed', () => {
    const planned = planFor(source, before, { ...AT_ONCE, noticedAt: () => undefined });
    expect(planned.steps).toEqual([]);
  });

  it('stays while something hangs off it that does not go', () => {
    const planned = planFor(graph('. @r', 'web < a@1 @w'), received(graph('. @r', 'a @1 @2', 'web < a@1 @w')), AT_ONCE);
    expect(planned.steps).toEqual([]);
    expect(stays(planned)).toEqual(['a depended-on']);
  });

  it('goes as a family, clones first', () => {
    const local = received(graph('. @r', 'a @1', 'web < a@1 @w', 'app < web@w @x'));
    expect(planFor(graph('. @r'), local, AT_ONCE).steps.map(inWords)).toEqual([
      'destroy app',
      'destroy web',
      'destroy a',
    ]);
  });

  it('stays while something that no graph shows hangs off it', () => {
    const local = received(graph('. @r', 'a @1 @2', 'b @1', 'c @1'));
    const origins = new Set(['a', 'b'].map((name) => guidOf(local, `${name}@1`)));
    const planned = planFor(graph('. @r', 'a @2'), local, AT_ONCE, { hidden: { copies: 2, origins } });
    expect(planned.steps.map(inWords)).toEqual(['destroy c']);
    expect(stays(planned)).toEqual(['b depended-on', 'a@1 depended-on']);
  });

  it('stays when snapshots were taken of it here', () => {
    const local = graph('. @r', 'a @1 @mine');
    const [a] = [...local.datasets.values()].filter(({ name }) => name === 'a');
    const mine = new Map(local.datasets).set((a as Dataset).id, {
      ...(a as Dataset),
      received: a?.snapshots[0]?.guid ?? null,
    });
    const planned = planFor(graph('. @r'), new Graph(local.root, mine), AT_ONCE);
    expect(planned.steps).toEqual([]);
    expect(stays(planned)).toEqual(['a taken-here']);
  });

  it('stays when it never had a snapshot, so that nothing shows where its data came from', () => {
    const planned = planFor(graph('. @r'), received(graph('. @r', 'mine', 'b @1', 'clone < b@1')), AT_ONCE);
    expect(planned.steps.map(inWords)).toEqual(['destroy clone', 'destroy b']);
    expect(stays(planned)).toEqual(['mine taken-here']);
  });

  it('stays as far as a peer builds on it', () => {
    const peer = graph('. @r', 'a @1 @2', 'b @1');
    const planned = planFor(source, before, { ...AT_ONCE, copies: [peer] });
    expect(planned.steps.map(inWords)).toEqual(['destroy b/c', 'destroy a@1: departed']);
    expect(stays(planned)).toEqual(['b in-common', 'a@2 in-common']);
  });

  it('never includes what this node owns', () => {
    const own = new Map(Array.from(before.datasets, ([id, one]) => [id, { ...one, owner: { node: SELF, epoch: 1 } }]));
    expect(planFor(source, new Graph(before.root, own), AT_ONCE).steps).toEqual([]);
  });

  it('never includes the root, nor the newest snapshot of anything', () => {
    expect(planFor(graph('. @r2', 'a @4'), received(graph('. @r', 'a @1')), AT_ONCE).steps).toEqual([]);
  });
});

describe('a lineage holder that nothing hangs off any more', () => {
  /** A replica with a holder, whose snapshot was received for clones or moved out of a dataset that was here. */
  function withHolder(properties: Properties): Graph {
    const guid = '4711' as SnapshotGuid;
    const [model = expect.fail()] = received(graph('. @r', 'a @1'))
      .sorted()
      .filter(({ name }) => name === 'a');
    const [one = expect.fail()] = model.snapshots;
    const snapshots = [{ ...one, guid, name: 'origin' as SnapshotName }];
    const holder = { ...model, id: lineageId(guid), name: lineageName(guid), properties, snapshots, received: guid };
    const base = received(graph('. @r', 'b @1'));
    return new Graph(base.root, new Map(base.datasets).set(holder.id, holder));
  }

  it('stays where a copy that is kept aside does', () => {
    const origins = new Set(['4711' as SnapshotGuid]);
    expect(planFor(source, withHolder({}), {}, { hidden: { copies: 1, origins } }).steps).toEqual([]);
  });

  const source = graph('. @r', 'b @1');
  const destroyed = `destroy ${lineageName('4711' as SnapshotGuid)}`;

  it('goes at once where its snapshot was received for its clones', () => {
    expect(planFor(source, withHolder({}), {}).steps.map(inWords)).toEqual([destroyed]);
  });

  it('stays when somebody has taken a snapshot of it here', () => {
    const local = withHolder({});
    const [holder = expect.fail()] = [...local.datasets.values()].filter(({ name }) => name.startsWith('.pando'));
    const snapshots = [
      ...holder.snapshots,
      ...graph('. @mine')
        .sorted()
        .flatMap((one) => one.snapshots),
    ];
    const datasets = new Map(local.datasets).set(holder.id, { ...holder, snapshots });
    const planned = planFor(source, new Graph(local.root, datasets), {});
    expect(planned.steps).toEqual([]);
    expect(planned.retained.map(({ reason }) => reason)).toEqual(['taken-here']);
  });

  it('stays as long as the rules say where its snapshot was here before them', () => {
    const moved = withHolder({ [MOVED_PROPERTY]: 'on' });
    expect(planFor(source, moved, {}).steps).toEqual([]);
    const waiting = planFor(source, moved, { graceMs: 3 * HOUR_MS });
    expect(waiting.steps).toEqual([]);
    expect(waiting.retained.map(({ reason }) => reason)).toEqual(['grace']);
    expect(planFor(source, moved, { graceMs: HOUR_MS }).steps.map(inWords)).toEqual([destroyed]);
    expect(planFor(source, moved, { keep: { last: 1 } }).steps.map(inWords)).toEqual([destroyed]);
    expect(departures(source, moved, REPLICA.follows)).toEqual([
      { dataset: lineageId('4711' as SnapshotGuid), snapshot: null },
    ]);
  });
});

describe('a rule', () => {
  it('takes the place of older snapshots by newer ones in one sync, the newer ones first', () => {
    const planned = planFor(graph('. @r', 'a @1 @2 @3 @4'), graph('. @r', 'a @1 @2'), { keep: { last: 2 } });
    expect(planned.steps.map(inWords)).toEqual([
      'incremental a a@2..@4 -I',
      'destroy a@1: not-kept',
      'destroy a@2: not-kept',
    ]);
    expect(planned.steps.at(-1)?.after).toContain(0);
  });

  it('keeps what hangs together with something that is just put aside', () => {
    const local = graph('. @r', 'a @1 @2 @mine');
    const planned = planFor(graph('. @r', 'a @1 @2 @3'), local, { keep: { last: 1 } });
    expect(planned.steps.map(inWords)).toEqual([
      'preserve a behind @2: mine',
      'incremental a a@2..@3 -i',
      'destroy a@1: not-kept',
    ]);
    expect(stays(planned)).toEqual(['a@2 depended-on']);
  });

  it('keeps what its owner destroyed as long as it says so', () => {
    const planned = planFor(graph('. @r', 'a @3'), graph('. @r', 'a @1 @2 @3'), { keep: { last: 2 }, graceMs: 0 });
    expect(planned.steps.map(inWords)).toEqual(['destroy a@1: not-kept']);
  });

  it('does not concern what clones hang off', () => {
    const same = graph('. @r', 'a @1 @2', 'web < a@1 @w');
    const planned = planFor(same, same, { keep: { last: 1 } });
    expect(planned.steps).toEqual([]);
    expect(stays(planned)).toEqual(['a@1 depended-on']);
  });

  it('does not concern what only this node has', () => {
    const planned = planFor(graph('. @r', 'a @1 @2'), graph('. @r', 'a @1 @2 @mine'), { keep: { last: 1 } });
    expect(planned.steps.map(inWords)).toEqual(['destroy a@1: not-kept']);
  });
});

describe('for random forests', () => {
  const rules = fc.constantFrom<KeepRule>('all', { last: 1 }, { last: 3 }, { hourly: 2 }, { daily: 1, last: 2 });
  const round = fc.tuple(arbitraryHistory(40), arbitraryHistory(5));

  /** Plays rounds of a history into a mirror that gives up at once what its rule does not keep. */
  function followed(
    keep: KeepRule,
    histories: readonly (readonly Parameters<typeof grow>[1][number][])[],
    check: (facts: { source: Graph; before: Graph; local: Graph; planned: Plan; peer: Graph }) => void,
  ): void {
    const forest = startForest();
    let local: Graph = EMPTY_GRAPH;
    let peer: Graph = EMPTY_GRAPH;
    const known = new Map<string, number>();
    const noticedAt = (departed: Departed) => known.get(departureKey(departed));
    for (const history of histories) {
      const source = grow(forest, history);
      for (const departed of departures(source, local, REPLICA.follows)) known.set(departureKey(departed), NOW);
      const planned = planFor(source, local, { keep, ...AT_ONCE, noticedAt, copies: [peer] });
      const before = local;
      local = received(apply(source, local, planned).graph);
      check({ source, before, local, planned, peer });
      peer = before;
    }
  }

  it('no snapshot is destroyed that is the newest in common with a peer, nor one that the owner has where all is kept', () => {
    fc.assert(
      fc.property(rules, fc.array(round, { minLength: 1, maxLength: 4 }), (keep, rounds) => {
        followed(keep, rounds.flat(), ({ source, local, planned, peer }) => {
          for (const step of planned.steps.filter(({ kind }) => kind === 'destroy-dataset')) {
            expect(source.get(step.dataset)).toBeUndefined();
          }
          for (const step of planned.steps.filter((one) => one.kind === 'destroy-snapshot')) {
            const { guid } = step.snapshot;
            const left = new Set(guidsOf(local, step.dataset));
            const atPeer = guidsOf(peer, step.dataset);
            const newer = atPeer.slice(atPeer.indexOf(guid) + 1);
            expect(!atPeer.includes(guid) || newer.some((one) => left.has(one))).toBe(true);
            expect(keep === 'all' && guidsOf(source, step.dataset).includes(guid)).toBe(false);
          }
        });
      }),
      { numRuns: 300 },
    );
  });

  it('a mirror that keeps all and gives up at once ends as its owner is, but for what is told', () => {
    fc.assert(
      fc.property(fc.array(round, { minLength: 1, maxLength: 4 }), (rounds) => {
        followed('all', rounds.flat(), ({ source, local, planned }) => {
          const excused = new Set(
            [...planned.conflicts, ...planned.waiting, ...planned.retained].map(({ dataset }) => dataset),
          );
          const there = new Set(allGuids(source));
          const extra = difference(source, local).filter(
            (found) =>
              found.kind.endsWith('-extra') &&
              !excused.has(found.dataset) &&
              found.dataset !== ROOT_STAND_IN &&
              // What a promote that waits has not moved yet
              !('guid' in found && there.has(found.guid)) &&
              !isBehindCommon(found, source, local),
          );
          expect(extra).toEqual([]);
        });
      }),
      { numRuns: 300 },
    );
  });

  it('two syncs bring a mirror to rest', () => {
    fc.assert(
      fc.property(rules, round, round, (keep, one, other) => {
        followed(keep, [...one, ...other], ({ source, local, peer }) => {
          const given = { keep, ...AT_ONCE, copies: [peer] };
          const second = apply(source, local, planFor(source, local, given)).graph;
          expect(planFor(source, second, given).steps).toEqual([]);
        });
      }),
      { numRuns: 300 },
    );
  });
});
