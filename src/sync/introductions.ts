/** Introductions over HTTPS: one POST on a connection that ends with its answer. */
import { type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { remoteOf } from './tls.ts';
import { INTRODUCTION_BYTES_MAX, type ListenOptions } from './transport.ts';

const INTRODUCTION_PATH = '/introduction';
const BYTES_TYPE = 'application/octet-stream';

/** The whole of a body. Rejects when it is larger than an introduction may be, or cut short; then nothing more of it is read. */
async function readBody(message: IncomingMessage): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > INTRODUCTION_BYTES_MAX) throw new Error('it says more than belongs to an introduction');
    chunks.push(chunk);
  }
  return new Uint8Array(Buffer.concat(chunks));
}

function answer(response: ServerResponse, status: number, body: Uint8Array = new Uint8Array()): void {
  const headers = { connection: 'close', 'content-type': BYTES_TYPE, 'content-length': body.length };
  response.writeHead(status, headers).end(body);
}

/** Answers what is no upgrade: an introduction, or a status that says what belongs here. */
export async function answerIntroduction(
  { introduce, meets }: ListenOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const socket = request.socket as TLSSocket;
  const remote = remoteOf(socket);
  if (remote === null || !meets(remote) || request.method !== 'POST' || request.url !== INTRODUCTION_PATH) {
    answer(response, 426);
    return;
  }
  try {
    answer(response, 200, await introduce(remote.node, await readBody(request)));
  } catch {
    // A request that was given up leaves its connection open
    socket.destroy();
  }
}

/** Asks the node at the other end of the socket. Rejects when it gives no answer, or more than one may have. */
export function askForIntroduction(socket: TLSSocket, question: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const asking = request({
      method: 'POST',
      path: INTRODUCTION_PATH,
      headers: { connection: 'close', 'content-type': BYTES_TYPE, 'content-length': question.length },
      createConnection: () => socket,
    });
    asking.once('response', (response) => {
      if (response.statusCode === 200) readBody(response).then(resolve, reject);
      else reject(new Error(`it answered with status ${response.statusCode}`));
    });
    asking.once('error', reject);
    asking.end(question);
  });
}
