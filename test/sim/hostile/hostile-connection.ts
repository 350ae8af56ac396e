/** What a node that means harm says to its peers: mostly what it should, or nobody would listen to it for long. */
import type { Signer } from '../../../src/core/codec/chain.ts';
import { pack, unpack } from '../../../src/core/codec/msgpack.ts';
import { decodeMessage, encodeMessage } from '../../../src/sync/message-codec.ts';
import type { Message } from '../../../src/sync/messages.ts';
import { type Connection, FRAME_BYTES_MAX, type Transport } from '../../../src/sync/transport.ts';
import type { Random } from '../random.ts';
import { altered, alteredBytes } from './altered.ts';
import type { ForgedLogs } from './forged-logs.ts';
import type { Habits } from './hostility.ts';

/** Requests that are made at once by a node that floods its peers. */
const FLOOD = 100;
const GARBAGE_BYTES_MAX = 1_000;

export interface Liar {
  readonly signer: Signer;
  readonly random: Random;
  readonly logs: ForgedLogs;
  readonly habits: Habits;
}

/** The transport of a node that lies on each of its connections. */
export function hostileTransport(transport: Transport, liar: Liar): Transport {
  return {
    listen: ({ accept, ...options }) =>
      transport.listen({ ...options, accept: (connection) => accept(lyingOn(connection, liar)) }),
    dial: async (address, peer, signal) => lyingOn(await transport.dial(address, peer, signal), liar),
    bare: transport.bare,
    openData: transport.openData.bind(transport),
    introduce: transport.introduce.bind(transport),
    close: transport.close.bind(transport),
  };
}

function lyingOn(connection: Connection, liar: Liar): Connection {
  const send = connection.send.bind(connection);
  connection.send = (frame) => {
    for (const each of saidInstead(frame, connection, liar)) if (each.length <= FRAME_BYTES_MAX) send(each);
  };
  return connection;
}

function saidInstead(frame: Uint8Array, { peer }: Connection, liar: Liar): Uint8Array[] {
  const { random, logs, habits } = liar;
  const message = decodeMessage(frame);
  if (isAnswer(message) && random.chance(habits.nonsense)) return [];
  if (random.chance(habits.nonsense)) return mischief(frame, liar);
  if (message.type === 'events') return [encodeMessage(logs.instead(message, peer))];
  if (message.type !== 'have' || !message.reply) return [frame];
  return [encodeMessage({ ...message, heads: message.heads.map((head) => logs.headFor(peer, head)) })];
}

function isAnswer(message: Message): boolean {
  return message.type === 'response' || (message.type === 'have' && message.reply);
}

function mischief(frame: Uint8Array, { random, signer }: Liar): Uint8Array[] {
  switch (random.below(7)) {
    case 0:
      return [frame, frame];
    case 1:
      return [random.bytes(1 + random.below(GARBAGE_BYTES_MAX))];
    case 2:
      return [alteredBytes(frame, random)];
    case 3:
      return [frame, pack(random.pick(uncalledFor(signer, random)))];
    case 4:
      return [frame, ...Array.from({ length: FLOOD }, (_, id) => pack(request(id + 1_000_000, random)))];
    default:
      return [pack(altered(unpack(frame), random))];
  }
}

function request(id: number, random: Random): object {
  const method = random.pick(['transfer.prepare', 'transfer.outcome', 'transfer.finish', 'toString']);
  return { type: 'request', id, method, params: altered({}, random) };
}

/** What nobody asked for. */
function uncalledFor({ node }: Signer, random: Random): object[] {
  return [
    { type: 'ack', stream: `${node}/tree`, incarnation: 1, seq: random.below(100) },
    { type: 'credit', bytes: 1 + random.below(2 ** 20) },
    { type: 'have', id: random.below(100), refresh: true },
    { type: 'have', id: random.below(100), reply: true },
    { type: 'response', id: random.below(20), result: altered({}, random) },
    { type: 'cancel', id: random.below(20) },
    { type: 'checkpoint-end' },
    { type: 'goodbye', code: 'INTERNAL', message: 'No more.' },
  ];
}
