/**
 * What the two ends of a transfer say to each other over the control connection. The receiver asks, since it knows what it has
 * and can take (design §8):
 *
 *     prepare   these streams of that tree, please   → a one-time ticket for each, and where to bring it
 *     outcome   what became of this one?             → how the sending side ended, to explain a broken stream
 *     finish    done with all of it                  → holds released
 *
 * Each stream then has a data connection of its own, opened with its ticket.
 */
import { z } from 'zod';
import { PandoError } from '../core/errors.ts';
import { datasetId, snapshotGuid } from '../core/event-fields.ts';
import { parseTransferId, parseTreeName, type ResumeToken } from '../core/ids.ts';
import { parseFlags } from '../core/stream-flags.ts';

export const PREPARE = 'transfer.prepare';
export const OUTCOME = 'transfer.outcome';
export const FINISH = 'transfer.finish';

/**
 * Streams in one transfer. They share holds, the listing that verifies, and an entry in the log at either end, beside whose cost that of the streams counts
 * for more the more there are; and what they ask for fits one frame.
 */
export const TRANSFER_STREAMS_MAX = 256;
/** A transfer with as much as that to come, in bytes, gets no further streams: what came is verified, and what was held let go, when all of it has come. */
export const TRANSFER_BYTES_MAX = 64 * 1024 ** 3;

/** Transfers that one peer may have open at a sender. A mirror needs one at a time; the receiver lets others wait their turn. */
export const TRANSFERS_PER_PEER_MAX = 16;

/** `sealed`: through TLS. `direct`: a bare TCP socket handed to ZFS itself, on links that both ends declared trusted. */
export const LINK_MODES = ['sealed', 'direct'] as const;
export type LinkMode = (typeof LINK_MODES)[number];

const snapshotOfDataset = z.object({ dataset: datasetId, guid: snapshotGuid });

/** Longest list of flags, in characters: room for letters that later versions may bring. */
const FLAGS_CHARACTERS_MAX = 32;
const flagsSchema = z
  .string()
  .max(FLAGS_CHARACTERS_MAX)
  .transform((text) => parseFlags(text));

/** Longest resume token, in characters: a few numbers and a name, packed. */
const TOKEN_CHARACTERS_MAX = 4096;

const streamSchema = z.object({
  snapshot: snapshotOfDataset,
  base: snapshotOfDataset.extend({ intermediates: z.boolean() }).nullable(),
  /** How the chain was begun that it goes on with; null for a new one, which the sender chooses for. */
  flags: flagsSchema.nullable(),
  /** To go on where it was cut short, with what ZFS says of it. */
  resume: z
    .string()
    .max(TOKEN_CHARACTERS_MAX)
    .transform((text) => text as ResumeToken)
    .nullable(),
});

const transferId = z.string().transform((text) => parseTransferId(text));

export const prepareSchema = z.object({
  transfer: transferId,
  tree: z.string().transform((text) => parseTreeName(text)),
  streams: z.array(streamSchema).min(1).max(TRANSFER_STREAMS_MAX),
  mode: z.enum(LINK_MODES),
  /** Whether this end would rather have streams compressed on their way, and can take them so. */
  compress: z.boolean().default(false),
  /** How streams may be made, as far as this end can take and remember it. */
  takes: flagsSchema,
  /** Whether this end keeps what came of a stream that is cut short, so that the snapshots are worth holding for a while. */
  resumable: z.boolean(),
});
export type Prepare = z.output<typeof prepareSchema>;
export type WantedStream = Prepare['streams'][number];

export const preparedSchema = z.object({
  mode: z.enum(LINK_MODES),
  /** TCP port for direct data connections; null in sealed mode. */
  directPort: z.int().min(1).max(65_535).nullable(),
  /** In the order of the streams asked for. */
  tickets: z.array(z.string().min(1).max(128)).max(TRANSFER_STREAMS_MAX),
  /** How each of them will be made. */
  flags: z.array(flagsSchema).max(TRANSFER_STREAMS_MAX),
  /** Which of them will be compressed on their way: never without being asked, nor what is compressed already. */
  compressed: z.array(z.boolean()).max(TRANSFER_STREAMS_MAX).default([]),
});
export type Prepared = z.output<typeof preparedSchema>;
/** The same as it is written. */
export type PreparedAnswer = z.input<typeof preparedSchema>;

export const outcomeSchema = z.object({ transfer: transferId, stream: z.int().nonnegative() });
export const outcomeResultSchema = z.object({
  /** Bytes sent, where they were counted. */
  bytes: z.int().nonnegative().nullable(),
  /** Why the sending side failed, in one sentence; null when it did not. */
  failure: z.string().max(4096).nullable(),
});
export type Outcome = z.output<typeof outcomeResultSchema>;

export const finishSchema = z.object({
  transfer: transferId,
  outcome: z.enum(['completed', 'failed', 'cancelled']),
  bytes: z.int().nonnegative(),
  /** The streams that came whole, by their places in the transfer. */
  received: z.array(z.int().nonnegative()).max(TRANSFER_STREAMS_MAX),
  /** Whether something of it was cut short and may go on, so that its snapshots should be held for a while. */
  resumes: z.boolean(),
});

/** Validates what a peer said. Throws `PROTOCOL_FRAME_INVALID` with what is wrong. */
export function checked<Schema extends z.ZodType>(schema: Schema, value: unknown, method: string): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new PandoError(
    'PROTOCOL_FRAME_INVALID',
    `A peer's "${method}" is not well formed: ${z.prettifyError(result.error)}.`,
    { method },
  );
}
