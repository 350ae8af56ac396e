/**
 * Filters of snapshots in containerd's language (`filters/filter.go`, and `adaptSnapshot` in `snapshots/storage/bolt.go` there):
 * `kind==active`, `labels."containerd.io/snapshot.ref"==sha256:…`, `name~=/^default/`, `labels.keep,parent!=""`.
 *
 * The fields are `kind`, `name`, `parent` and `labels.` with the name of one. Any other is absent, and so is a label that there is not: `!=`
 * and `~=` take what is absent for empty.
 */
import { RE2JS } from 're2js';
import { describeError, PandoError } from '../errors.ts';
import { parseSelectors, type Selector } from './filter-parser.ts';
import type { SnapshotInfo } from './snapshot.ts';

/** Longest filter in characters: a label of 4096 bytes with its value, where half of all characters are escaped. */
const FILTER_CHARACTERS_MAX = 8192;

/**
 * Largest pattern, in instructions of its compiled form. Its engine works in time that is the product of this and of the text's length, 4096
 * at most for a label: a tenth of a second where nothing can be remembered. A pattern as people write one has less than a hundred.
 */
const PATTERN_INSTRUCTIONS_MAX = 2000;

export type SnapshotFilter = (info: SnapshotInfo) => boolean;

/** The value of a field; null where it is absent. */
function fieldOf(info: SnapshotInfo, [field, ...rest]: readonly string[]): string | null {
  switch (field) {
    case 'kind':
      return info.kind;
    case 'name':
      return info.key;
    case 'parent':
      return info.parent ?? '';
    case 'labels': {
      const label = rest.join('.');
      return Object.hasOwn(info.labels, label) ? (info.labels[label] ?? null) : null;
    }
    default:
      return null;
  }
}

/**
 * Compiles a pattern. It is RE2's language, which is Go's, and not JavaScript's: patterns mean here what they mean to containerd, and none
 * can run away, since RE2 never goes back in the text. containerd takes a pattern that is none for one that matches nothing.
 */
function compile({ value, fault }: Extract<Selector, { operator: '~=' }>): RE2JS {
  let pattern: RE2JS;
  try {
    pattern = RE2JS.compile(value);
  } catch (error) {
    throw fault(`this is no pattern that RE2 knows (${describeError(error)})`);
  }
  if (pattern.programSize() > PATTERN_INSTRUCTIONS_MAX) throw fault('this pattern is too large');
  return pattern;
}

function selects(selector: Selector): SnapshotFilter {
  const { path, operator } = selector;
  switch (operator) {
    case 'present':
      return (info) => fieldOf(info, path) !== null;
    case '==':
      return (info) => fieldOf(info, path) === selector.value;
    case '!=':
      return (info) => (fieldOf(info, path) ?? '') !== selector.value;
    case '~=': {
      const pattern = compile(selector);
      return (info) => pattern.test(fieldOf(info, path) ?? '');
    }
  }
}

function parseFilter(text: string): SnapshotFilter {
  if (text.length > FILTER_CHARACTERS_MAX) {
    throw new PandoError('ARGUMENT_INVALID', `A filter has at most ${FILTER_CHARACTERS_MAX} characters.`);
  }
  if (text === '') return () => true;
  const selectors = parseSelectors(text).map(selects);
  return (info) => selectors.every((matches) => matches(info));
}

/**
 * What matches any of the filters; without one, everything, and so does an empty one. Throws `ARGUMENT_INVALID` with the place where one
 * cannot be read.
 */
export function parseFilters(texts: readonly string[]): SnapshotFilter {
  if (texts.length === 0) return () => true;
  const filters = texts.map(parseFilter);
  return (info) => filters.some((matches) => matches(info));
}
