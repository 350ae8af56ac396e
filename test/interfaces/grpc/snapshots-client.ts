/** A client of the snapshots service as any program may be one: grpc-js over the socket, and the file that the server reads. */
import { fileURLToPath } from 'node:url';
import { Client, type ClientReadableStream, credentials, type ServiceError } from '@grpc/grpc-js';
import { loadSync, type MethodDefinition } from '@grpc/proto-loader';
import type {
  InfoMessage,
  ListResponse,
  MountsResponse,
  UsageResponse,
} from '../../../src/interfaces/grpc/messages.ts';

const PROTO = fileURLToPath(new URL('../../../src/interfaces/grpc/snapshots.proto', import.meta.url));
const SERVICE = 'containerd.services.snapshots.v1.Snapshots';

type AnyMethod = MethodDefinition<object, object>;

export class SnapshotsClient {
  readonly #client: Client;
  readonly #methods: Readonly<Record<string, AnyMethod>>;

  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure());
    // 64 bits as texts: what the server sends is to be seen exactly.
    const definition = loadSync(PROTO, { defaults: true, enums: String, longs: String });
    this.#methods = definition[SERVICE] as unknown as Record<string, AnyMethod>;
  }

  close(): void {
    this.#client.close();
  }

  /** Calls a method that answers once; rejects with a ServiceError. */
  call<Response = unknown>(method: string, request: object): Promise<Response> {
    const { path, requestSerialize, responseDeserialize } = this.#method(method);
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, (error, response) => {
        if (error === null) resolve(response as Response);
        else reject(error);
      });
    });
  }

  mounts(method: 'Prepare' | 'View' | 'Mounts', request: object): Promise<MountsResponse> {
    return this.call(method, { snapshotter: 'pando', ...request });
  }

  async info(method: 'Stat' | 'Update', request: object): Promise<InfoMessage> {
    return (await this.call<{ info: InfoMessage }>(method, { snapshotter: 'pando', ...request })).info;
  }

  usage(key: string): Promise<UsageResponse> {
    return this.call('Usage', { key });
  }

  listing(...filters: string[]): ClientReadableStream<ListResponse> {
    const { path, requestSerialize, responseDeserialize } = this.#method('List');
    const stream = this.#client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, { filters });
    return stream as ClientReadableStream<ListResponse>;
  }

  /** The messages of a list. */
  async batches(...filters: string[]): Promise<InfoMessage[][]> {
    const batches: InfoMessage[][] = [];
    for await (const { info } of this.listing(...filters) as AsyncIterable<ListResponse>) batches.push([...info]);
    return batches;
  }

  async keys(...filters: string[]): Promise<string[]> {
    return (await this.batches(...filters)).flat().map(({ name }) => name);
  }

  #method(name: string): AnyMethod {
    const method = this.#methods[name];
    if (method === undefined) throw new Error(`The service has no method ${name}`);
    return method;
  }
}

/** The status and text of a call that fails. */
export async function failureOf(call: Promise<unknown>): Promise<Pick<ServiceError, 'code' | 'details'>> {
  try {
    await call;
  } catch (error) {
    const { code, details } = error as ServiceError;
    return { code, details };
  }
  throw new Error('The call did not fail');
}
