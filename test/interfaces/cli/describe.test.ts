/** Sentences for people: every reason and every event has one, and it names what it is about. */
import { describe, expect, test } from 'vitest';
import type { EventBody } from '../../../src/core/events.ts';
import type { Difference } from '../../../src/core/graph/difference.ts';
import type {
  BookmarkName,
  DatasetName,
  HoldTag,
  InvitationId,
  RelativeName,
  SnapshotName,
  TransferId,
  TreeName,
} from '../../../src/core/ids.ts';
import { parseDiffId } from '../../../src/core/layers/digest.ts';
import { EVERYTHING } from '../../../src/core/plan/filter.ts';
import { plan } from '../../../src/core/plan/plan.ts';
import type { Conflict, Waiting } from '../../../src/core/plan/steps.ts';
import { describeConflict, describeWaiting } from '../../../src/interfaces/cli/describe-conflict.ts';
import { describeDifference } from '../../../src/interfaces/cli/describe-difference.ts';
import { DatasetNames, describeEvent } from '../../../src/interfaces/cli/describe-event.ts';
import { describeStep } from '../../../src/interfaces/cli/describe-step.ts';
import { formatBytes, formatCount, formatDuration, formatTime } from '../../../src/interfaces/cli/format.ts';
import { drawGraph } from '../../../src/interfaces/cli/graph-drawing.ts';
import { SyncProgress } from '../../../src/interfaces/cli/sync-progress.ts';
import { datasetId, graph, OWNER, REPLICA, snapshot } from '../../core/graph-language.ts';

const root = 'tank/mirror' as DatasetName;
const name = 'web/app' as RelativeName;
const snapshots = (...names: string[]) => names as SnapshotName[];

/** Keyed by reason, so that the compiler asks for each. */
const conflicts: { readonly [Reason in Conflict['reason']]: Extract<Conflict, { reason: Reason }> } = {
  'name-taken': { dataset: datasetId('web'), name, reason: 'name-taken', by: datasetId('other') },
  'name-reserved': { dataset: datasetId('web'), name, reason: 'name-reserved' },
  'name-too-long': { dataset: datasetId('web'), name, reason: 'name-too-long' },
  'no-common-snapshot': { dataset: datasetId('web'), name, reason: 'no-common-snapshot', localOnly: snapshots('x') },
  'root-diverged': {
    dataset: datasetId('web'),
    name,
    reason: 'root-diverged',
    lastCommon: 'v1' as SnapshotName,
    localOnly: snapshots('a', 'b', 'c', 'd', 'e'),
  },
  'not-owned-together': { dataset: datasetId('web'), name, reason: 'not-owned-together', by: 'own' as RelativeName },
  'same-bookmarks': {
    dataset: datasetId('web'),
    name,
    reason: 'same-bookmarks',
    by: 'base' as RelativeName,
    bookmarks: ['before' as BookmarkName],
  },
  'origin-differs': { dataset: datasetId('web'), name, reason: 'origin-differs' },
  'written-without-snapshot': { dataset: datasetId('web'), name, reason: 'written-without-snapshot' },
  'rename-blocked': { dataset: datasetId('web'), name, reason: 'rename-blocked', current: 'old' as RelativeName },
  'aside-full': { dataset: datasetId('web'), name, reason: 'aside-full' },
  'limit-reached': { dataset: datasetId('web'), name, reason: 'limit-reached', limit: 'snapshots', allowed: 128 },
  'parent-missing': { dataset: datasetId('web'), name, reason: 'parent-missing', parent: 'web' as RelativeName },
  'origin-missing': { dataset: datasetId('web'), name, reason: 'origin-missing', snapshot: 'v1' as SnapshotName },
};

describe('a conflict', () => {
  test.each(Object.values(conflicts))('"$reason" is one sentence that names the dataset and what to do', (conflict) => {
    const sentence = describeConflict(conflict, root);
    expect(sentence).toContain('tank/mirror/web/app');
    expect(sentence).toMatch(/(sync again|receive it anew)[^.]*\.$/);
  });

  test('that needs the dataset out of the way has a command that keeps it, outside the mirror', () => {
    const command = '"zfs rename tank/mirror/web/app tank/kept-mirror-web-app"';
    for (const reason of ['name-taken', 'no-common-snapshot', 'origin-differs', 'written-without-snapshot'] as const) {
      expect(describeConflict(conflicts[reason], root)).toContain(command);
    }
  });

  test('by divergence names the snapshot to go back to, and the first of those that would be lost', () => {
    const sentence = describeConflict(conflicts['root-diverged'], root);
    expect(sentence).toContain('(a, b, c and 2 more)');
    expect(sentence).toContain('"zfs rollback -r tank/mirror/web/app@v1"');
  });
});

test.each<Waiting['reason']>(['no-snapshot', 'parent-waits', 'origin-waits', 'name-waits'])(
  'waiting for "%s" is one sentence',
  (reason) => {
    const sentence = describeWaiting({ dataset: datasetId('web'), name, reason }, root);
    expect(sentence).toMatch(/^tank\/mirror\/web\/app waits for .*\.$/);
  },
);

const dataset = datasetId('web');
const layer = parseDiffId(`sha256:${'0'.repeat(64)}`);
const admin = { peer: OWNER.node, tree: 'images' as TreeName, root };
const events: { readonly [Type in EventBody['type']]: Extract<EventBody, { type: Type }> } = {
  'tree.added': { type: 'tree.added', root },
  'tree.removed': { type: 'tree.removed' },
  'dataset.created': {
    type: 'dataset.created',
    dataset,
    kind: 'filesystem',
    guid: '1',
    name,
    origin: { dataset: null, snapshot: snapshot('base', '@v1').guid },
    owner: OWNER,
    properties: {},
  },
  'dataset.renamed': { type: 'dataset.renamed', dataset, from: name, to: 'new' as RelativeName },
  'dataset.promoted': { type: 'dataset.promoted', dataset },
  'dataset.rolled-back': {
    type: 'dataset.rolled-back',
    dataset,
    to: snapshot('web', '@a').guid,
    name: 'a' as SnapshotName,
  },
  'dataset.destroyed': { type: 'dataset.destroyed', dataset, name },
  'dataset.properties-changed': {
    type: 'dataset.properties-changed',
    dataset,
    changed: { compression: 'lz4', atime: null },
  },
  'snapshot.created': { type: 'snapshot.created', dataset, snapshot: snapshot('web', '@a') },
  'snapshot.renamed': {
    type: 'snapshot.renamed',
    dataset,
    guid: snapshot('web', '@a').guid,
    from: 'a' as SnapshotName,
    to: 'b' as SnapshotName,
  },
  'snapshot.destroyed': {
    type: 'snapshot.destroyed',
    dataset,
    guid: snapshot('web', '@a').guid,
    name: 'a' as SnapshotName,
  },
  'bookmark.created': {
    type: 'bookmark.created',
    dataset,
    bookmark: { guid: snapshot('web', '@a').guid, name: 'a' as BookmarkName, createtxg: 7 },
  },
  'bookmark.destroyed': {
    type: 'bookmark.destroyed',
    dataset,
    guid: snapshot('web', '@a').guid,
    name: 'a' as BookmarkName,
  },
  'hold.placed': { type: 'hold.placed', dataset, guid: snapshot('web', '@a').guid, tag: 'backup' as HoldTag },
  'hold.released': { type: 'hold.released', dataset, guid: snapshot('web', '@a').guid, tag: 'backup' as HoldTag },
  'ownership.claimed': { type: 'ownership.claimed', dataset, owner: OWNER },
  'image.tagged': { type: 'image.tagged', name: 'web:v1', manifest: null, config: '{}', layers: [layer] },
  'image.untagged': { type: 'image.untagged', name: 'web:v1' },
  'layer-store.added': { type: 'layer-store.added', tree: admin.tree, base: '' as RelativeName },
  'root-commit.started': {
    type: 'root-commit.started',
    transfer: '0198c0de-0000-7000-8000-000000000001' as TransferId,
    tree: admin.tree,
    base: '' as RelativeName,
    root: 'web-1',
    image: 'web:v2',
    parent: null,
    below: [],
    config: null,
    layer,
    stopped: [],
  },
  'snapshotter.kept': {
    type: 'snapshotter.kept',
    key: 'default/1/web',
    tree: admin.tree,
    kind: 'active',
    parent: 'default/0/base',
    labels: {},
    createdAt: '1',
    updatedAt: '1',
    dataset: name,
    objects: null,
  },
  'snapshotter.dropped': { type: 'snapshotter.dropped', key: 'default/1/web' },
  'peer.added': { type: 'peer.added', ...admin, name: 'backup', address: null, trustedLink: false },
  'peer.removed': { type: 'peer.removed', peer: OWNER.node },
  'grant.given': { type: 'grant.given', peer: OWNER.node, trees: 'images', role: 'reader' },
  'grant.revoked': { type: 'grant.revoked', peer: OWNER.node, trees: 'images' },
  'invitation.made': {
    type: 'invitation.made',
    invitation: 'abcd0123' as InvitationId,
    secretHash: '0'.repeat(64),
    name: null,
    expiresAt: 0,
    trees: 'images',
    role: 'contributor',
  },
  'invitation.used': { type: 'invitation.used', invitation: 'abcd0123' as InvitationId, peer: OWNER.node },
  'invitation.withdrawn': { type: 'invitation.withdrawn', invitation: 'abcd0123' as InvitationId },
  'access.refused': { type: 'access.refused', peer: null, action: 'connect', tree: null, times: 3 },
  'peer.rekeyed': { type: 'peer.rekeyed', peer: OWNER.node, keys: ['0'.repeat(64), '1'.repeat(64)] },
  'bandwidth.limited': { type: 'bandwidth.limited', peer: OWNER.node, bytesPerSecond: 20_000_000 },
  'contributions.limited': { type: 'contributions.limited', peer: OWNER.node, filesystems: 64, snapshots: null },
  'local-tree.added': { type: 'local-tree.added', tree: admin.tree, root },
  'local-tree.removed': { type: 'local-tree.removed', tree: admin.tree },
  'mirror.added': {
    type: 'mirror.added',
    tree: admin.tree,
    from: OWNER.node,
    root,
    ...EVERYTHING,
  },
  'mirror.changed': {
    type: 'mirror.changed',
    tree: admin.tree,
    from: OWNER.node,
    ...EVERYTHING,
    keep: { daily: 7 },
    graceMs: 3_600_000,
  },
  'departures.noticed': {
    type: 'departures.noticed',
    tree: admin.tree,
    from: OWNER.node,
    since: 1,
    departed: [],
    settled: [],
  },
  'mirror.removed': { type: 'mirror.removed', tree: admin.tree, from: OWNER.node },
  'transfer.started': {
    type: 'transfer.started',
    transfer: 't' as TransferId,
    role: 'sender',
    peer: OWNER.node,
    tree: admin.tree,
    held: [{ snapshot: 'a@b', guid: snapshot('a', '@b').guid }],
    heldBelow: [],
    targets: [],
    resumable: [],
  },
  'receive.interrupted': {
    type: 'receive.interrupted',
    transfer: 't' as TransferId,
    peer: OWNER.node,
    tree: admin.tree,
    targets: ['tank/mirror/web' as DatasetName],
    until: 1,
  },
  'preservation.started': {
    type: 'preservation.started',
    transfer: 't' as TransferId,
    tree: admin.tree,
    dataset,
    name: 'tank/mirror/web' as DatasetName,
    aside: 'tank/mirror/.pando/diverged/web-t' as DatasetName,
    successor: 'tank/mirror/.pando/diverged/t-successor' as DatasetName,
    lastCommon: 'a' as SnapshotName,
    outside: null,
  },
  'root-exchange.started': {
    type: 'root-exchange.started',
    transfer: 't' as TransferId,
    tree: admin.tree,
    dataset,
    name: 'tank/mirror' as DatasetName,
    successor: 'tank/mirror/renaming-t' as DatasetName,
    outside: 'tank/pando-t' as DatasetName,
    former: 'tank/mirror/renaming-f' as DatasetName,
  },
  'transfer.ended': { type: 'transfer.ended', transfer: 't' as TransferId, outcome: 'completed', bytes: 2048 },
};

describe('an event', () => {
  test.each(Object.values(events))('"$type" is a sentence', (event) => {
    expect(describeEvent(event, new DatasetNames('images', undefined))).toMatch(/^\S.*\.$/);
  });

  test('of a type that this version does not know is named', () => {
    const sentence = describeEvent(
      { type: 'unknown', originalType: 'layer.unpacked' },
      new DatasetNames('t', undefined),
    );
    expect(sentence).toContain('layer.unpacked');
  });

  test('names its dataset as it was called then', () => {
    const place = { v: 1, seq: 1, at: 0, cause: 'command' } as const;
    const names = new DatasetNames('images', graph('. @a', 'today#web'));
    expect(names.place(dataset)).toBe('images/today');
    names.learn({ ...place, ...events['dataset.created'] });
    expect(describeEvent(events['snapshot.created'], names)).toContain('images/web/app@a');
    names.learn({ ...place, ...events['dataset.renamed'], from: 'web' as RelativeName });
    expect(describeEvent(events['snapshot.created'], names)).toContain('images/new/app@a');
  });
});

const differences: Readonly<Record<Difference['kind'], Difference>> = {
  'dataset-missing': { kind: 'dataset-missing', dataset, name },
  'dataset-extra': { kind: 'dataset-extra', dataset, name },
  'dataset-name': { kind: 'dataset-name', dataset, name, actual: 'other' as RelativeName },
  origin: { kind: 'origin', dataset, name, expected: snapshot('a', '@a').guid, actual: null },
  'snapshot-missing': { kind: 'snapshot-missing', dataset, name, ...named('a') },
  'snapshot-extra': { kind: 'snapshot-extra', dataset, name, ...named('a') },
  'snapshot-name': { kind: 'snapshot-name', dataset, name, ...named('a') },
  'snapshot-order': { kind: 'snapshot-order', dataset, name, ...named('a') },
};

function named(text: string) {
  return { guid: snapshot('web', `@${text}`).guid, snapshot: text as SnapshotName };
}

test('every difference is a line of its own that names the place', () => {
  const lines = Object.values(differences).map((one) => describeDifference('images', one));
  for (const line of lines) expect(line).toMatch(/^images\/web\/app/);
  expect(new Set(lines).size).toBe(lines.length);
});

describe('a plan', () => {
  const source = graph('. ', 'base @v1 @v2 @v3', 'moved#web < base@v2 @a');
  const local = graph('. ', 'base @v1', 'web');
  const { steps } = plan({ source, wanted: source, local, ...REPLICA });

  test('is told step by step', () => {
    expect(steps.map((step) => describeStep('images', step))).toEqual([
      'rename images/web to images/moved',
      'receive images/base@v3 from @v1 (2 snapshots)',
    ]);
    const fresh = plan({ source, wanted: source, local: graph(), ...REPLICA });
    expect(fresh.steps.map((step) => describeStep('images', step))).toEqual([
      'create images, empty until its owner takes a snapshot',
      'receive images/base@v1 in full',
      'receive images/base@v3 from @v1 (2 snapshots)',
      'receive images/moved@a as a clone of images/base@v2',
    ]);
  });

  test('makes progress from what is told of its steps', () => {
    const fresh = plan({ source, wanted: source, local: graph(), ...REPLICA });
    const progress = new SyncProgress('images', fresh);
    progress.add({ kind: 'step-started', step: 1, estimatedBytes: 4096 }, 1000);
    progress.add({ kind: 'step-progress', step: 1, bytes: 1024 }, 2000);
    progress.add({ kind: 'step-started', step: 3, estimatedBytes: 2048 }, 2000);
    const rest = progress.estimatedBytes;
    expect(progress.line(3000)).toBe(
      `images: 0 of 4 steps, 1.0 KiB of ${formatBytes(rest)}, 512 B/s: receive images/base@v1 in full and 1 more`,
    );
    // More than was estimated raises the estimate; what could not be counted keeps what was seen
    progress.add({ kind: 'step-progress', step: 1, bytes: 5120 }, 4000);
    expect(progress.estimatedBytes).toBe(rest + 1024);
    progress.add({ kind: 'step-ended', step: 1, outcome: { result: 'done', bytes: null } }, 4000);
    expect(progress.bytes).toBe(5120);
    expect(progress.line(4000)).toContain('images: 1 of 4 steps');
  });
});

describe('a drawn graph', () => {
  test('hangs clones of clones below their snapshots, in order', () => {
    const drawn = [...drawGraph('t', graph('. ', 'base @v1 @v2', 'a < base@v1 @x @y', 'b < a@x', 'c < base@v1', 'd'))];
    expect(drawn.map((line) => line.replace(/ {2}\d+ {2}.*$/, ''))).toEqual([
      't',
      't/base',
      '├── @v1',
      '│   ├── t/a ← t/base@v1',
      '│   │   ├── @x',
      '│   │   │   └── t/b ← t/a@x',
      '│   │   └── @y',
      '│   └── t/c ← t/base@v1',
      '└── @v2',
      't/d',
    ]);
  });

  test('leaves out nothing: a clone of what is not there stands by itself', () => {
    const lost = graph('web < base@v1 @x');
    expect([...drawGraph('t', lost)][0]).toBe(`t/web ← ${snapshot('base', '@v1').guid} (not in this tree)`);
  });
});

describe('quantities', () => {
  test.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1024 ** 2 * 1.5, '1.5 MiB'],
    [1024 ** 3, '1.0 GiB'],
    [1024 ** 6, '1024.0 PiB'],
  ])('%d bytes are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  test.each([
    [0, '0.0 s'],
    [9_949, '9.9 s'],
    [10_000, '10 s'],
    [65_000, '1 min 5 s'],
    [3_600_000, '1 h 0 min'],
    [90_061_000, '1 d 1 h'],
  ])('%d ms are %s', (ms, text) => expect(formatDuration(ms)).toBe(text));

  test('one thing is singular, none and many are plural', () => {
    expect([0, 1, 2].map((count) => formatCount(count, 'step'))).toEqual(['0 steps', '1 step', '2 steps']);
  });

  test('a moment is in UTC', () => {
    expect(formatTime(Date.UTC(2026, 2, 1, 12, 30, 5, 999))).toBe('2026-03-01 12:30:05Z');
  });
});
