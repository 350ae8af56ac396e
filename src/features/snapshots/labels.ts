/** What callers may say of snapshots. */
import { PandoError } from '../../core/errors.ts';
import { LABELS_CHARACTERS_MAX, SNAPSHOT_KEY_CHARACTERS_MAX } from '../../core/layer-events.ts';
import { LABEL_BYTES_MAX, type Labels } from '../../core/snapshots/snapshot.ts';

/** Throws `ARGUMENT_INVALID` for a key that is empty or longer than a path with a namespace. */
export function checkKey(key: string): void {
  if (key !== '' && key.length <= SNAPSHOT_KEY_CHARACTERS_MAX) return;
  throw new PandoError(
    'ARGUMENT_INVALID',
    `The key of a snapshot has 1 to ${SNAPSHOT_KEY_CHARACTERS_MAX} characters, not ${key.length}.`,
    { key: key.slice(0, 100) },
  );
}

/** Throws `ARGUMENT_INVALID` for a label that is longer than containerd lets labels be, or for more of them than an event takes. */
export function checkLabels(labels: Labels): void {
  let characters = 0;
  for (const [name, value] of Object.entries(labels)) {
    characters += name.length + value.length;
    if (Buffer.byteLength(name) + Buffer.byteLength(value) <= LABEL_BYTES_MAX) continue;
    throw new PandoError(
      'ARGUMENT_INVALID',
      `The label "${name.slice(0, 100)}" and its value have more than ${LABEL_BYTES_MAX} bytes together.`,
      { label: name.slice(0, 100) },
    );
  }
  if (characters <= LABELS_CHARACTERS_MAX) return;
  throw new PandoError(
    'ARGUMENT_INVALID',
    `The labels of a snapshot have ${characters} characters together, more than ${LABELS_CHARACTERS_MAX}.`,
  );
}

/**
 * The labels after an update by a field mask (containerd, `storage/bolt.go`): `labels.NAME` sets one, or takes it away where the update has none of that name; `labels`, and no mask at all,
 * replace them all. Throws `ARGUMENT_INVALID` for a field that cannot change.
 */
export function updatedLabels(before: Labels, update: Labels, fields: readonly string[]): Labels {
  if (fields.length === 0) return update;
  let labels: Record<string, string> = { ...before };
  for (const field of fields) {
    if (field === 'labels') {
      labels = { ...update };
      continue;
    }
    const name = /^labels\.(.+)$/s.exec(field)?.[1];
    if (name === undefined) {
      throw new PandoError('ARGUMENT_INVALID', `The field "${field}" of a snapshot cannot change; labels can.`, {
        field,
      });
    }
    const value = update[name];
    if (value === undefined) delete labels[name];
    else labels[name] = value;
  }
  return labels;
}
