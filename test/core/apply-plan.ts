/**
 * What ZFS would make of a plan, with its rules (zfs-rules.md): the judge of the planner's property tests. Knows nothing of how a plan
 * is made. Throws when a step asks for what ZFS refuses.
 */
import { strict as assert } from 'node:assert';
import type { Snapshot } from '../../src/core/events.ts';
import { bookmarkOf, type Dataset, Graph, newestSnapshot, snapshotOf } from '../../src/core/graph/graph.ts';
import { lineageId, parentOf, type RelativeName, ROOT_STAND_IN } from '../../src/core/ids.ts';
import { standInFor } from '../../src/core/plan/stand-in.ts';
import {
  isReceive,
  type MetadataStep,
  PLACEHOLDER_PROPERTY,
  type Plan,
  type PreserveStep,
  type ReceiveStep,
  type Step,
  type TakeRootStep,
} from '../../src/core/plan/steps.ts';
import { OWNER } from './graph-language.ts';

function sent(source: Dataset, step: ReceiveStep): Snapshot[] {
  const to = source.snapshots.findIndex(({ guid }) => guid === step.to.guid);
  assert.ok(to >= 0, `the source has no snapshot ${step.to.name}`);
  if (step.kind === 'receive-full') return source.snapshots.slice(to, to + 1);
  const base = source.snapshots.findIndex(({ guid }) => guid === step.base.snapshot.guid);
  if (base < 0 && step.kind === 'receive-incremental') {
    const bookmark = bookmarkOf(source, step.base.snapshot.guid);
    assert.ok(bookmark && bookmark.createtxg < (source.snapshots[to]?.createtxg ?? 0), 'the base lies before the end');
    assert.ok(!step.intermediates, 'a bookmark is the base of one snapshot');
    return source.snapshots.slice(to, to + 1);
  }
  if (step.kind === 'receive-incremental') assert.ok(base < to, 'the base lies before the end');
  return source.snapshots.slice(step.intermediates ? base + 1 : to, to + 1);
}

function checkNewDataset(local: Map<string, Dataset>, step: Step): void {
  const names = new Set(Array.from(local.values(), ({ name }) => name));
  assert.ok(!names.has(step.name), `${step.name} exists already`);
  const parent = parentOf(step.name);
  assert.ok(parent === undefined || names.has(parent), `${step.name} has no parent`);
}

/** The dataset that a step changes, which stands where the step says. */
function target(local: Map<string, Dataset>, step: Step, name: RelativeName = step.name): Dataset {
  const here = local.get(step.dataset);
  assert.ok(here, `${step.name} is here`);
  assert.equal(here.name, name, 'the step knows the name that the dataset has by then');
  return here;
}

function create(source: Dataset, step: Step, origin: Dataset['origin'], snapshots: Snapshot[]): Dataset {
  // Streams bring neither
  return { ...source, name: step.name, origin, snapshots, bookmarks: [], holds: [] };
}

/** The origin of a clone as a dataset of its own, as whoever sends finds it by its guid (`transfer/offers.ts`). */
function originAlone(source: Graph, { dataset: id, to, kind }: ReceiveStep): Dataset | undefined {
  const [clone] = source.clonesOf(to.guid);
  const dataset = clone?.origin?.dataset == null ? undefined : source.get(clone.origin.dataset);
  const snapshot = dataset === undefined ? undefined : snapshotOf(dataset, to.guid);
  if (dataset === undefined || snapshot === undefined || id !== lineageId(to.guid)) return undefined;
  assert.equal(kind, 'receive-full', 'nothing is sent behind an origin, or before it');
  return { ...dataset, id, origin: null, snapshots: [{ ...snapshot, name: to.name }] };
}

function applyReceive(source: Graph, local: Map<string, Dataset>, step: ReceiveStep): void {
  const from = source.get(step.dataset) ?? originAlone(source, step);
  assert.ok(from, 'the source has the dataset');
  const snapshots = sent(from, step);
  assert.equal(snapshots.length, step.snapshots, 'the stream brings as many snapshots as planned');
  const here = local.get(step.dataset);
  if (step.kind === 'receive-incremental') {
    assert.ok(here, 'an increment needs its target');
    target(local, step);
    for (const { name } of snapshots) assert.ok(!here.snapshots.some((one) => one.name === name), `@${name} is free`);
    assert.equal(newestSnapshot(here)?.guid, step.base.snapshot.guid, 'the base is the newest snapshot of the target');
    local.set(step.dataset, { ...here, snapshots: [...here.snapshots, ...snapshots] });
    return;
  }
  if (step.kind === 'receive-full' && step.overPlaceholder) {
    assert.ok(here && here.snapshots.length === 0, 'a placeholder stands there');
    local.set(step.dataset, create(from, step, null, snapshots));
    return;
  }
  checkNewDataset(local, step);
  if (step.kind === 'receive-full') {
    local.set(step.dataset, create(from, step, null, snapshots));
    return;
  }
  const guid = step.base.snapshot.guid;
  const origin = local.get(step.base.dataset);
  assert.ok(
    origin !== undefined && snapshotOf(origin, guid) !== undefined,
    `origin ${step.base.name}@${step.base.snapshot.name} is here`,
  );
  assert.equal(step.base.name, origin.name, 'the step knows the name that the origin has by then');
  local.set(step.dataset, create(from, step, { dataset: origin.id, snapshot: guid }, snapshots));
}

function applyRename(local: Map<string, Dataset>, from: RelativeName, to: RelativeName): void {
  for (const dataset of local.values()) {
    if (dataset.name !== from && !dataset.name.startsWith(`${from}/`)) continue;
    local.set(dataset.id, { ...dataset, name: `${to}${dataset.name.slice(from.length)}` as RelativeName });
  }
}

function applyPromote(local: Map<string, Dataset>, step: Step): void {
  const clone = target(local, step);
  assert.ok(clone.origin?.dataset, 'only a clone can be promoted');
  const parent = local.get(clone.origin.dataset);
  assert.ok(parent, 'the origin is here');
  const cut = parent.snapshots.findIndex(({ guid }) => guid === clone.origin?.snapshot) + 1;
  assert.ok(cut > 0, 'the origin snapshot is here');
  const moved = parent.snapshots.slice(0, cut);
  const names = new Set(clone.snapshots.map(({ name }) => name));
  for (const { name } of moved) assert.ok(!names.has(name), `@${name} collides`);
  local.set(parent.id, {
    ...parent,
    origin: { dataset: clone.id, snapshot: clone.origin.snapshot },
    snapshots: parent.snapshots.slice(cut),
  });
  local.set(clone.id, { ...clone, origin: parent.origin, snapshots: [...moved, ...clone.snapshots] });
  const guids = new Set(moved.map(({ guid }) => guid));
  for (const other of [...local.values()]) {
    if (other.id === parent.id || other.origin?.dataset !== parent.id || !guids.has(other.origin.snapshot)) continue;
    local.set(other.id, { ...other, origin: { dataset: clone.id, snapshot: other.origin.snapshot } });
  }
}

/** What lies below the root stays. */
function applyTakeRoot(local: Map<string, Dataset>, { dataset, from, former }: TakeRootStep): void {
  const here = local.get(dataset);
  const root = local.get(former.dataset);
  assert.equal(here?.name, from);
  assert.equal(root?.name, '');
  const others = Array.from(local.values()).filter((one) => one !== here && one !== root);
  assert.ok(!others.some(({ name }) => parentOf(name) === from), 'nothing lies below it');
  assert.ok(!others.some(({ name }) => name === former.name), `${former.name} is free`);
  assert.equal(parentOf(former.name), '', 'the former root stands right below the new one');
  local.set(dataset, { ...here, name: '' as RelativeName } as Dataset);
  local.set(former.dataset, { ...root, name: former.name } as Dataset);
}

function applyPreserve(local: Map<string, Dataset>, step: PreserveStep, aside: Dataset[]): void {
  const here = target(local, step);
  const isRoot = here.name === '';
  assert.ok(
    isRoot || !Array.from(local.values()).some(({ name }) => parentOf(name) === here.name),
    'nothing lies below it',
  );
  const last = here.snapshots.findIndex(({ guid }) => guid === step.lastCommon?.guid);
  assert.equal(last >= 0, step.lastCommon !== null, 'the last snapshot in common is here');
  const gone = here.snapshots.slice(last + 1);
  const names = gone.map(({ name }) => name);
  assert.deepEqual(names, step.localOnly);
  if (last < 0) local.delete(here.id);
  if (last < 0 && isRoot) local.set(ROOT_STAND_IN, standInFor(here));
  if (last >= 0) local.set(here.id, { ...here, snapshots: here.snapshots.slice(0, last + 1) });
  aside.push({ ...here, snapshots: gone });
  for (const other of [...local.values()]) {
    if (other.origin?.dataset !== here.id || !gone.some(({ guid }) => guid === other.origin?.snapshot)) continue;
    local.set(other.id, { ...other, origin: { dataset: null, snapshot: other.origin.snapshot } });
  }
}

function applyMetadata(source: Graph, local: Map<string, Dataset>, step: MetadataStep, aside: Dataset[]): void {
  switch (step.kind) {
    case 'rename':
      target(local, step, step.from);
      checkNewDataset(local, step);
      assert.ok(!step.name.startsWith(`${step.from}/`), 'nothing is moved into itself');
      applyRename(local, step.from, step.name);
      return;
    case 'take-root':
      applyTakeRoot(local, step);
      return;
    case 'create-placeholder': {
      checkNewDataset(local, step);
      const model =
        step.dataset === ROOT_STAND_IN ? standInFor({ owner: OWNER }) : (source.get(step.dataset) as Dataset);
      local.set(step.dataset, create(model, step, null, []));
      const made = local.get(step.dataset) as Dataset;
      local.set(step.dataset, { ...made, properties: { [PLACEHOLDER_PROPERTY]: 'on' } });
      return;
    }
    case 'clone': {
      checkNewDataset(local, step);
      const origin = local.get(step.origin.dataset);
      assert.ok(origin && snapshotOf(origin, step.origin.snapshot.guid), 'the origin is here');
      assert.equal(origin.name, step.origin.name);
      const edge = { dataset: origin.id, snapshot: step.origin.snapshot.guid };
      local.set(step.dataset, create(source.get(step.dataset) as Dataset, step, edge, []));
      return;
    }
    case 'promote':
      applyPromote(local, step);
      return;
    case 'rename-snapshot': {
      const here = target(local, step);
      assert.equal(snapshotOf(here, step.guid)?.name, step.from);
      assert.ok(!here.snapshots.some(({ name }) => name === step.to), `@${step.to} is free`);
      const snapshots = here.snapshots.map((one) => (one.guid === step.guid ? { ...one, name: step.to } : one));
      local.set(here.id, { ...here, snapshots });
      return;
    }
    case 'preserve':
      applyPreserve(local, step, aside);
      return;
    case 'destroy-snapshot': {
      const here = target(local, step);
      const { guid } = step.snapshot;
      assert.ok(snapshotOf(here, guid), `@${step.snapshot.name} is here`);
      assert.ok(!Array.from(local.values()).some(({ origin }) => origin?.snapshot === guid), 'it has no clones');
      local.set(here.id, { ...here, snapshots: here.snapshots.filter((one) => one.guid !== guid) });
      return;
    }
    case 'destroy-dataset': {
      const here = target(local, step);
      const guids = here.snapshots.map(({ guid }) => guid);
      assert.deepEqual(guids, step.snapshots);
      for (const other of local.values()) {
        assert.ok(parentOf(other.name) !== here.name || other === here, `${other.name} lies below it`);
        assert.ok(!guids.some((guid) => guid === other.origin?.snapshot), `${other.name} is a clone of it`);
      }
      local.delete(here.id);
      return;
    }
  }
}

export interface Applied {
  readonly graph: Graph;
  /** What was kept under `.pando/diverged`. */
  readonly aside: readonly Dataset[];
}

/** What is there after all steps of the plan. */
export function apply(source: Graph, local: Graph, plan: Plan): Applied {
  const datasets = new Map<string, Dataset>(local.datasets);
  const aside: Dataset[] = [];
  plan.steps.forEach((step, index) => {
    assert.ok(
      step.after.every((before) => before < index),
      'a step waits only for earlier ones',
    );
    if (isReceive(step)) applyReceive(source, datasets, step);
    else applyMetadata(source, datasets, step, aside);
  });
  return { graph: new Graph(local.root ?? source.root, datasets as Map<Dataset['id'], Dataset>), aside };
}

/** The local graph after all steps of the plan. */
export function applyPlan(source: Graph, local: Graph, plan: Plan): Graph {
  return apply(source, local, plan).graph;
}
