/**
 * What ZFS would make of a plan, with its rules (zfs-rules.md): the judge of the planner's property tests. Knows nothing of how a plan
 * is made. Throws when a step asks for what ZFS refuses.
 */
import { strict as assert } from 'node:assert';
import type { Snapshot } from '../../src/core/events.ts';
import { type Dataset, Graph, newestSnapshot, snapshotOf } from '../../src/core/graph/graph.ts';
import { parentOf, type RelativeName } from '../../src/core/ids.ts';
import { PLACEHOLDER_PROPERTY, type Plan, type ReceiveStep, type Step } from '../../src/core/plan/steps.ts';

function sent(source: Dataset, step: ReceiveStep): Snapshot[] {
  const to = source.snapshots.findIndex(({ guid }) => guid === step.to.guid);
  assert.ok(to >= 0, `the source has no snapshot ${step.to.name}`);
  if (step.kind === 'receive-full') return source.snapshots.slice(to, to + 1);
  const base = source.snapshots.findIndex(({ guid }) => guid === step.base.snapshot.guid);
  if (step.kind === 'receive-incremental') assert.ok(base >= 0 && base < to, 'the base lies before the end');
  return source.snapshots.slice(step.intermediates ? base + 1 : to, to + 1);
}

function checkNewDataset(local: Map<string, Dataset>, step: Step): void {
  const names = new Set(Array.from(local.values(), ({ name }) => name));
  assert.ok(!names.has(step.name), `${step.name} exists already`);
  const parent = parentOf(step.name);
  assert.ok(parent === undefined || names.has(parent), `${step.name} has no parent`);
}

function create(source: Dataset, step: Step, origin: Dataset['origin'], snapshots: Snapshot[]): Dataset {
  return { ...source, name: step.name, origin, snapshots };
}

function applyReceive(source: Graph, local: Map<string, Dataset>, step: ReceiveStep): void {
  const from = source.get(step.dataset);
  assert.ok(from, 'the source has the dataset');
  const snapshots = sent(from, step);
  assert.equal(snapshots.length, step.snapshots, 'the stream brings as many snapshots as planned');
  const here = local.get(step.dataset);
  if (step.kind === 'receive-incremental') {
    assert.ok(here, 'an increment needs its target');
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
  const origin = Array.from(local.values()).find((dataset) => snapshotOf(dataset, guid) !== undefined);
  assert.ok(origin, `origin ${step.base.name}@${step.base.snapshot.name} is here`);
  local.set(step.dataset, create(from, step, { dataset: origin.id, snapshot: guid }, snapshots));
}

function applyRename(local: Map<string, Dataset>, from: RelativeName, to: RelativeName): void {
  for (const dataset of local.values()) {
    if (dataset.name !== from && !dataset.name.startsWith(`${from}/`)) continue;
    local.set(dataset.id, { ...dataset, name: `${to}${dataset.name.slice(from.length)}` as RelativeName });
  }
}

/** The local graph after all steps of the plan. */
export function applyPlan(source: Graph, local: Graph, plan: Plan): Graph {
  const datasets = new Map<string, Dataset>(local.datasets);
  plan.steps.forEach((step, index) => {
    assert.ok(
      step.after.every((before) => before < index),
      'a step waits only for earlier ones',
    );
    if (step.kind === 'rename') {
      checkNewDataset(datasets, step);
      applyRename(datasets, step.from, step.name);
    } else if (step.kind === 'create-placeholder') {
      checkNewDataset(datasets, step);
      const model = source.get(step.dataset) as Dataset;
      datasets.set(step.dataset, {
        ...model,
        origin: null,
        properties: { [PLACEHOLDER_PROPERTY]: 'on' },
        snapshots: [],
      });
    } else {
      applyReceive(source, datasets, step);
    }
  });
  return new Graph(local.root ?? source.root, datasets as Map<Dataset['id'], Dataset>);
}
