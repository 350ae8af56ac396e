/** What two nodes say to each other before they are peers: one question from whoever has an invitation, one answer. */
import { z } from 'zod';
import { pack, unpack } from '../../core/codec/msgpack.ts';
import { ERROR_CODES, PandoError } from '../../core/errors.ts';
import { glob, peerName } from '../../core/event-fields.ts';
import { type Grant, ROLES } from '../../core/grants.ts';
import { SECRET_BYTES } from '../../core/invitation.ts';

/** Who joins: by TLS its key is known, and so its id. */
export interface JoinRequest {
  readonly secret: Uint8Array;
  /** What the node calls itself. */
  readonly name: string;
  /** Where it listens, or null when it cannot be dialled. */
  readonly address: string | null;
}

const requestSchema = z.strictObject({
  secret: z.instanceof(Uint8Array).refine(({ length }) => length === SECRET_BYTES),
  name: peerName,
  address: z.string().max(300).nullable(),
});
const answerSchema = z.union([
  z.strictObject({ trees: glob, role: z.enum(ROLES) }),
  z.strictObject({ code: z.enum(ERROR_CODES), message: z.string().max(1_000) }),
]);

export function encodeJoin({ secret, name, address }: JoinRequest): Uint8Array {
  return pack({ secret, name, address });
}

/** Throws `INVITATION_INVALID` for what is no request, whoever made it up. */
export function decodeJoin(bytes: Uint8Array): JoinRequest {
  return read(requestSchema, bytes);
}

/** The grant that the joining node has from now on. */
export function encodeWelcome({ trees, role }: Grant): Uint8Array {
  return pack({ trees, role });
}

export function encodeRefusal({ code, message }: PandoError): Uint8Array {
  return pack({ code, message });
}

/** The grant that this node has from now on. Throws what the other node refused with, and `INVITATION_INVALID` for what is no answer. */
export function decodeAnswer(bytes: Uint8Array): Grant {
  const answer = read(answerSchema, bytes);
  if ('role' in answer) return answer;
  throw new PandoError(answer.code, answer.message);
}

function read<Schema extends z.ZodType>(schema: Schema, bytes: Uint8Array): z.output<Schema> {
  try {
    return schema.parse(unpack(bytes));
  } catch (cause) {
    throw new PandoError(
      'INVITATION_INVALID',
      'What the other node said is no part of an introduction; it may run another version of Pando.',
      {},
      { cause },
    );
  }
}
