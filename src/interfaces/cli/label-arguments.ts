import { PandoError } from '../../core/errors.ts';

/** What labels on the command line change: values by name, and the names of all that are touched. */
export interface LabelChanges {
  readonly labels: Record<string, string>;
  /** Paths of a field mask. */
  readonly fields: string[];
}

/**
 * Reads `NAME=VALUE` as `ctr` does: without `=` the value is `true`, an empty one takes the label away, and the last of a name counts. Throws
 * `ARGUMENT_INVALID` for a label without a name.
 */
export function parseLabels(texts: readonly string[]): LabelChanges {
  const values = new Map<string, string>();
  for (const text of texts) {
    const [name = '', ...rest] = text.split('=');
    if (name === '') throw new PandoError('ARGUMENT_INVALID', `A label is written NAME=VALUE, not "${text}".`);
    values.set(name, rest.length === 0 ? 'true' : rest.join('='));
  }
  return {
    labels: Object.fromEntries([...values].filter(([, value]) => value !== '')),
    fields: [...values.keys()].map((name) => `labels.${name}`),
  };
}
