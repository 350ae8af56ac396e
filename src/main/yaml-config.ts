/** YAML that is checked against a schema, with errors that name the place in the file. */
import { isMap, isScalar, LineCounter, type Node, parseDocument } from 'yaml';
import { z } from 'zod';
import { PandoError } from '../core/errors.ts';

type Document = ReturnType<typeof parseDocument>;
type Path = readonly PropertyKey[];
type Place = { readonly line: number; readonly column: number };

/** How many characters a key may be off for us to guess which one was meant. */
const TYPING_ERRORS_MAX = 2;

class ConfigText {
  readonly #file: string;
  readonly #lines = new LineCounter();
  readonly document: Document;

  constructor(text: string, file: string) {
    this.#file = file;
    this.document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false, uniqueKeys: true });
  }

  placeAt(offset: number): Place {
    const { line, col } = this.#lines.linePos(offset);
    return { line, column: col };
  }

  /** Where the value at a path begins. */
  placeOf(path: Path): Place {
    const node = path.length === 0 ? this.document.contents : this.document.getIn(path, true);
    return this.placeAt((node as Node | null | undefined)?.range?.[0] ?? 0);
  }

  /** Where a key of the map at a path begins. */
  placeOfKey(path: Path, key: string): Place {
    const map = path.length === 0 ? this.document.contents : this.document.getIn(path, true);
    if (!isMap(map)) return this.placeOf(path);
    const pair = map.items.find((item) => isScalar(item.key) && String(item.key.value) === key);
    return this.placeAt((pair?.key as Node | undefined)?.range?.[0] ?? 0);
  }

  error(what: string, { line, column }: Place, evidence: Readonly<Record<string, unknown>>): PandoError {
    return new PandoError('CONFIG_INVALID', `${what} at ${this.#file}:${line}:${column}.`, {
      file: this.#file,
      line,
      column,
      ...evidence,
    });
  }
}

/** Levenshtein distance of two words. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (const [index, character] of [...a].entries()) {
    const next = [index + 1];
    for (const [column, other] of [...b].entries()) {
      const substituted = (row[column] ?? 0) + (character === other ? 0 : 1);
      next.push(Math.min(substituted, (row[column + 1] ?? 0) + 1, (next[column] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

function closest(key: string, known: readonly string[]): string | undefined {
  const [best] = known
    .map((candidate) => ({ candidate, off: distance(key.toLowerCase(), candidate.toLowerCase()) }))
    .sort((one, other) => one.off - other.off);
  return best !== undefined && best.off <= TYPING_ERRORS_MAX ? best.candidate : undefined;
}

/** The keys that the schema knows at a path. */
function knownKeys(schema: z.ZodType, path: Path): readonly string[] {
  let inner = schema;
  while (inner instanceof z.ZodPrefault || inner instanceof z.ZodDefault) inner = inner.unwrap() as z.ZodType;
  if (!(inner instanceof z.ZodObject)) return [];
  const [first, ...rest] = path;
  if (first === undefined) return Object.keys(inner.shape);
  const below = inner.shape[String(first)] as z.ZodType | undefined;
  return below === undefined ? [] : knownKeys(below, rest);
}

function unknownKey(text: ConfigText, schema: z.ZodType, path: Path, key: string): PandoError {
  const known = knownKeys(schema, path);
  const meant = closest(key, known);
  const hint = meant === undefined ? `known here are ${known.join(', ')}` : `did you mean "${meant}"?`;
  const full = [...path, key].join('.');
  const place = text.placeOfKey(path, key);
  const error = text.error(`Unknown key "${full}"`, place, { key: full });
  return new PandoError(
    error.code,
    `${error.message.slice(0, -1)}; ${hint}${hint.endsWith('?') ? '' : '.'}`,
    error.evidence,
  );
}

function refuse(text: ConfigText, schema: z.ZodType, issues: readonly z.core.$ZodIssue[]): never {
  const [issue] = issues;
  if (issue === undefined) throw new PandoError('INTERNAL', 'A schema refused a configuration without saying why.');
  const [unknown] = issue.code === 'unrecognized_keys' ? issue.keys : [];
  if (unknown !== undefined) throw unknownKey(text, schema, issue.path, unknown);
  const key = issue.path.join('.');
  const subject = key === '' ? 'The configuration is not usable' : `The value of "${key}" is not usable`;
  throw text.error(`${subject} (${issue.message})`, text.placeOf(issue.path), { key });
}

/** Parses YAML and checks it. An empty text counts as an empty map. Throws `CONFIG_INVALID` with `file`, `line`, `column` and `key`. */
export function parseYaml<Schema extends z.ZodType>(source: string, file: string, schema: Schema): z.output<Schema> {
  const text = new ConfigText(source, file);
  const [error] = text.document.errors;
  if (error !== undefined) {
    throw text.error(`Not valid YAML (${error.message.replace(/\.$/, '')})`, text.placeAt(error.pos[0]), {
      yaml: error.code,
    });
  }
  const result = schema.safeParse(text.document.toJS() ?? {});
  return result.success ? result.data : refuse(text, schema, result.error.issues);
}
