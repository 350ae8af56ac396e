/** A direct link against a TCP connection that Node reads and writes, with nothing at either end but /dev/zero and /dev/null. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { DirectListener, openDirect } from '../../src/transfer/direct-link.ts';
import { detachFromNode } from '../../src/zfs/handover.ts';

const TICKET = 't'.repeat(43);
const HOST = '127.0.0.1';
/** `zfs send` writes a record at a time, by default of this size (recordsize, zfsprops.7). */
const WRITE_KIBIBYTES = 128;

export interface HandoverTimes {
  readonly mebibytes: number;
  readonly directSeconds: number;
  readonly nodeSeconds: number;
  /** How many times as fast the direct one is. */
  readonly factor: number;
}

function source(mebibytes: number, stdout: 'pipe' | Socket): ChildProcess {
  const count = (mebibytes * 1024) / WRITE_KIBIBYTES;
  const words = ['if=/dev/zero', `bs=${WRITE_KIBIBYTES}K`, `count=${count}`, 'status=none'];
  return spawn('dd', words, { stdio: ['ignore', stdout, 'inherit'] });
}

function sink(stdin: 'pipe' | Socket): ChildProcess {
  return spawn('cat', [], { stdio: [stdin, 'ignore', 'inherit'] });
}

async function direct(mebibytes: number): Promise<number> {
  const taken = deferred<Socket>();
  const listener = await DirectListener.listen(HOST, 0, (ticket) => (ticket === TICKET ? taken.resolve : null));
  const near = await openDirect(HOST, listener.port, TICKET, new AbortController().signal);
  const far = await taken.promise;
  for (const socket of [near, far]) detachFromNode(socket);
  const start = performance.now();
  const [reader, writer] = [sink(near), source(mebibytes, far)];
  const read = once(reader, 'exit');
  for (const socket of [near, far]) socket.destroy();
  await Promise.all([once(writer, 'exit'), read]);
  const seconds = (performance.now() - start) / 1000;
  await listener.close();
  return seconds;
}

function deferred<Value>() {
  let resolve = (_value: Value): void => undefined;
  const promise = new Promise<Value>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

async function throughNode(mebibytes: number): Promise<number> {
  const server = createServer().listen(0, HOST);
  await once(server, 'listening');
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const address = server.address();
  const near = connect(typeof address === 'object' && address !== null ? address.port : 0, HOST);
  const [far] = await accepted;
  const start = performance.now();
  const [reader, writer] = [sink('pipe'), source(mebibytes, 'pipe')];
  const read = once(reader, 'exit');
  if (writer.stdout === null || reader.stdin === null) throw new Error('A child has no pipe.');
  await Promise.all([pipeline(writer.stdout, far), pipeline(near, reader.stdin), read]);
  const seconds = (performance.now() - start) / 1000;
  server.close();
  return seconds;
}

/** Both, in turns; the medians of three. */
export async function measureHandover(mebibytes: number): Promise<HandoverTimes> {
  const times: { direct: number; node: number }[] = [];
  for (let round = 0; round < 3; round += 1) {
    times.push({ direct: await direct(mebibytes), node: await throughNode(mebibytes) });
  }
  const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[1] ?? Number.NaN;
  const directSeconds = median(times.map((time) => time.direct));
  const nodeSeconds = median(times.map((time) => time.node));
  return { mebibytes, directSeconds, nodeSeconds, factor: nodeSeconds / directSeconds };
}
