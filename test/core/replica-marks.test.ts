import { expect, it } from 'vitest';
import type { DatasetKind, Properties } from '../../src/core/events.ts';
import { hasReplicaMarks, REPLICA_PROPERTIES } from '../../src/core/replica-marks.ts';

const { filesystem, volume } = REPLICA_PROPERTIES;

it.each<[string, DatasetKind, Properties]>([
  ['a filesystem that was marked', 'filesystem', { ...filesystem, compression: 'lz4' }],
  ['what stands in for one without snapshots', 'filesystem', { ...filesystem, canmount: 'off' }],
  ['a volume that was marked', 'volume', { ...volume, volsize: '4194304' }],
])('%s is known as a replica', (_, kind, properties) => {
  expect(hasReplicaMarks(kind, properties)).toBe(true);
});

it.each<[string, DatasetKind, Properties]>([
  ['a filesystem that somebody can write to', 'filesystem', { ...filesystem, readonly: 'off' }],
  ['a filesystem that people mount by themselves', 'filesystem', { ...filesystem, canmount: 'on' }],
  ['a filesystem that is only readonly', 'filesystem', { readonly: 'on' }],
  ['a volume that is only readonly, as people may set it', 'volume', { readonly: 'on' }],
  ['a volume that somebody can write to', 'volume', { ...volume, readonly: 'off' }],
])('%s is not', (_, kind, properties) => {
  expect(hasReplicaMarks(kind, properties)).toBe(false);
});
