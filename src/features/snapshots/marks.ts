/** What a dataset says itself of the snapshot that it holds, so that it is known again where the log has lost it. */
import { PROPERTY_BYTES_MAX } from '../../core/layers/layer-names.ts';
import type { SnapshotKind } from '../../core/snapshots/snapshot.ts';

/** Of what was made in advance, and is nobody's yet. */
export const SPARE_MARK = 'spare';
/** Of what was made for somebody whom nobody knows. */
export const UNKNOWN_MARK = 'active:';

export interface SnapshotMark {
  readonly kind: Exclude<SnapshotKind, 'committed'>;
  /** Null where it was too long to be told. */
  readonly key: string | null;
}

/** What the property says of a new snapshot. */
export function markOf(kind: SnapshotMark['kind'], key: string): string {
  const mark = `${kind}:${Buffer.from(key).toString('base64url')}`;
  return mark.length > PROPERTY_BYTES_MAX ? `${kind}:` : mark;
}

/** Undefined for what is no mark. */
export function parseMark(text: string | undefined): SnapshotMark | undefined {
  const [, kind, key = ''] = /^(active|view):([A-Za-z0-9_-]*)$/.exec(text ?? '') ?? [];
  if (kind === undefined) return undefined;
  return { kind: kind as SnapshotMark['kind'], key: key === '' ? null : Buffer.from(key, 'base64url').toString() };
}
