/** What Pando needs of the config of an image (OCI image specification: config.md; Docker's has the same fields). */
import { z } from 'zod';
import { PandoError } from '../errors.ts';
import { branded } from '../event-fields.ts';
import { type DiffId, parseDiffId } from './digest.ts';

/** Real ones have a few KiB, and it is kept with every image: whatever is longer was made to be a burden. */
export const IMAGE_CONFIG_BYTES_MAX = 128 * 1024;
/** What container engines can mount at once (moby, `maxDepth` of overlay2). */
export const LAYERS_MAX = 128;

/** Longer names of platforms are none. */
const PLATFORM_CHARACTERS_MAX = 64;

/** For layers of which nobody said where they come from. It tells no time, so that the same layers give the same bytes. */
const UNTOLD: HistoryEntry = { created_by: 'pando' };

const historySchema = z.looseObject({
  created: z.string().optional(),
  created_by: z.string().optional(),
  author: z.string().optional(),
  comment: z.string().optional(),
  empty_layer: z.boolean().optional(),
});

const configSchema = z.looseObject({
  architecture: z.string().min(1).max(PLATFORM_CHARACTERS_MAX),
  os: z.string().min(1).max(PLATFORM_CHARACTERS_MAX),
  rootfs: z.looseObject({ type: z.literal('layers'), diff_ids: z.array(branded(parseDiffId)).max(LAYERS_MAX) }),
  history: z.array(historySchema).nullish(),
});

/** One step of how an image came about, as the config writes it; one with `empty_layer` made no layer (config.md "history"). */
export interface HistoryEntry {
  readonly created?: string | undefined;
  readonly created_by?: string | undefined;
  readonly author?: string | undefined;
  readonly comment?: string | undefined;
  readonly empty_layer?: boolean | undefined;
}

export interface ImageConfig {
  /** As Go calls it: `amd64`, `arm64`. */
  readonly architecture: string;
  readonly os: string;
  /** Lowest first. */
  readonly diffIds: readonly DiffId[];
  /** The JSON as it came: its digest is the id of the image. */
  readonly text: string;
}

/** Throws `IMAGE_INVALID` for what is no config, or longer than {@link IMAGE_CONFIG_BYTES_MAX}. */
export function parseImageConfig(text: string): ImageConfig {
  const { architecture, os, rootfs } = validated(parsedJson(text));
  return { architecture, os, diffIds: rootfs.diff_ids, text };
}

/**
 * The config for other layers, lowest first: the same text for the same arguments, and the one that came in if nothing changes. `history` is appended;
 * then entries that made a layer are left out from the end of the former ones, or added without a word about their making, until there are as many as
 * layers. A config without history gets none unless `history` has some. Throws `IMAGE_INVALID` for what is no config, or would be none, and where
 * `history` tells of more layers than there are.
 */
export function configWithLayers(
  text: string,
  diffIds: readonly DiffId[],
  history: readonly HistoryEntry[] = [],
): string {
  const parsed = parsedJson(text);
  validated(parsed);
  // What zod gives has other orders of fields
  const config = parsed as { rootfs: object; history?: readonly HistoryEntry[] | null };
  const wanted = { ...config, rootfs: { ...config.rootfs, diff_ids: diffIds } };
  if (config.history || history.length > 0) wanted.history = fitted(config.history ?? [], history, diffIds.length);
  const written = stringified(wanted);
  if (written === stringified(config)) return text;
  validated(parsedJson(written));
  return written;
}

function validated(json: unknown): z.infer<typeof configSchema> {
  const parsed = configSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw invalid(`${issue?.path.join('.') || 'it'}: ${issue?.message ?? 'is not as it should be'}`);
}

function parsedJson(text: string): unknown {
  if (Buffer.byteLength(text) > IMAGE_CONFIG_BYTES_MAX)
    throw invalid(`it has more than ${IMAGE_CONFIG_BYTES_MAX} bytes`);
  try {
    return JSON.parse(text);
  } catch {
    // What it says would quote the text
    throw invalid('it is not JSON');
  }
}

/** What people nest deeply enough can be read, but not written. */
function stringified(value: object): string {
  try {
    return JSON.stringify(value);
  } catch (error) {
    throw invalid('it is nested too deeply', error);
  }
}

function fitted(former: readonly HistoryEntry[], added: readonly HistoryEntry[], layers: number): HistoryEntry[] {
  const room = layers - layersOf(added);
  if (room < 0) throw invalid(`its history tells of ${layersOf(added)} new layers, and it has ${layers}`);
  let left = room;
  const kept = former.filter((entry) => entry.empty_layer === true || left-- > 0);
  return [...kept, ...Array.from({ length: room - layersOf(kept) }, () => UNTOLD), ...added];
}

function layersOf(history: readonly HistoryEntry[]): number {
  return history.filter((entry) => entry.empty_layer !== true).length;
}

function invalid(why: string, cause?: unknown): PandoError {
  return new PandoError(
    'IMAGE_INVALID',
    `The config of the image cannot be used: ${why}; have the image made again, or take another.`,
    {},
    { cause },
  );
}
