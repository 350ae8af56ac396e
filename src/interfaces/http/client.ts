/** Calls of a running node's API, typed. What the commands use; they know it by the interface `DaemonClient` of their own. */
import { Pool } from 'undici';
import type { Mirror } from '../../core/admin.ts';
import { describeError, isPandoError, PandoError } from '../../core/errors.ts';
import type { Event } from '../../core/events.ts';
import type { Graph } from '../../core/graph/graph.ts';
import type { NodeId } from '../../core/ids.ts';
import type { Plan } from '../../core/plan/steps.ts';
import type { DivergedCopy } from '../../features/diverged/diverged.ts';
import type { SyncReport } from '../../features/mirrors/mirror-syncs.ts';
import type { Taken } from '../../features/ownership/ownership.ts';
import type { Joined, OpenInvitation } from '../../features/peers/invitations.ts';
import type { LimitsStatus } from '../../features/peers/limits.ts';
import type { PeerGrant } from '../../features/peers/peer-grants.ts';
import type { KeptTree } from '../../features/trees/trees.ts';
import type { TreeVerification } from '../../features/verify/verifier.ts';
import type { TransferProgress } from '../../transfer/progress.ts';
import type { Call } from './call.ts';
import { LayersClient } from './layers-client.ts';
import type {
  AddMirrorRequest,
  AddPeerRequest,
  AddTreeRequest,
  ChangeMirrorRequest,
  CloneRequest,
  ContributionLimitsRequest,
  DestroyRequest,
  GiveGrantRequest,
  InviteRequest,
  JoinRequest,
  LimitRequest,
  OwnRequest,
  PromoteRequest,
  RenameRequest,
  RollbackRequest,
  SnapshotRequest,
} from './requests.ts';
import { SnapshotsClient } from './snapshots-client.ts';
import type { Status } from './status.ts';
import { decodeGraph, type LogLine, parseJson, type SyncLine, type VerifyLine, type WireGraph } from './wire.ts';

type Answer = Awaited<ReturnType<Pool['request']>>;

export class HttpClient {
  readonly #socket: string;
  readonly #pool: Pool;
  /** Snapshots as containerd has them. */
  readonly snapshots = new SnapshotsClient({
    json: (call) => this.#json(call),
    done: (call) => this.#done(call),
  });
  readonly layers = new LayersClient({
    json: (call) => this.#json(call),
    done: (call) => this.#done(call),
    lines: (call) => this.#lines(call),
    bytes: (call) => this.#bytes(call),
    cutShort: () => this.#cutShort(),
  });

  /** `socket` is the path of the daemon's socket. Nothing is opened before the first call, or kept open after one. */
  constructor(socket: string) {
    this.#socket = socket;
    // Long operations are silent for as long as they take, and the connection is local: no timeouts.
    this.#pool = new Pool('http://pando', { socketPath: socket, pipelining: 0, headersTimeout: 0, bodyTimeout: 0 });
  }

  identity(): Promise<{ readonly node: NodeId; readonly version: string }> {
    return this.#json({ method: 'GET', path: '/v1/node' });
  }

  /** Gives how many keys the node has had then. */
  async rotateKey(): Promise<number> {
    const path = '/v1/node/key';
    return (await this.#json<{ readonly keys: number }>({ method: 'POST', path, body: {} })).keys;
  }

  status(): Promise<Status> {
    return this.#json({ method: 'GET', path: '/v1/status' });
  }

  trees(): Promise<readonly KeptTree[]> {
    return this.#json({ method: 'GET', path: '/v1/trees' });
  }

  addTree(body: AddTreeRequest): Promise<void> {
    return this.#done({ method: 'POST', path: '/v1/trees', body });
  }

  removeTree(tree: string): Promise<void> {
    return this.#done({ method: 'DELETE', path: `/v1/trees/${encodeURIComponent(tree)}` });
  }

  peers(): Promise<Status['peers']> {
    return this.#json({ method: 'GET', path: '/v1/peers' });
  }

  addPeer(body: AddPeerRequest): Promise<void> {
    return this.#done({ method: 'POST', path: '/v1/peers', body });
  }

  removePeer(peer: string): Promise<void> {
    return this.#done({ method: 'DELETE', path: `/v1/peers/${encodeURIComponent(peer)}` });
  }

  grants(): Promise<readonly PeerGrant[]> {
    return this.#json({ method: 'GET', path: '/v1/grants' });
  }

  giveGrant(body: GiveGrantRequest): Promise<void> {
    return this.#done({ method: 'POST', path: '/v1/grants', body });
  }

  revokeGrant(peer: string, trees: string): Promise<void> {
    return this.#done({ method: 'DELETE', path: '/v1/grants', query: { peer, trees } });
  }

  limits(): Promise<LimitsStatus> {
    return this.#json({ method: 'GET', path: '/v1/limits' });
  }

  setLimit(body: LimitRequest): Promise<void> {
    return this.#done({ method: 'PUT', path: '/v1/limits', body });
  }

  setContributionLimits(body: ContributionLimitsRequest): Promise<void> {
    return this.#done({ method: 'PUT', path: '/v1/limits/contributions', body });
  }

  invitations(): Promise<readonly OpenInvitation[]> {
    return this.#json({ method: 'GET', path: '/v1/invitations' });
  }

  /** Gives the line that the other node joins with. */
  async invite(body: InviteRequest): Promise<string> {
    const { line } = await this.#json<{ readonly line: string }>({ method: 'POST', path: '/v1/invitations', body });
    return line;
  }

  withdrawInvitation(invitation: string): Promise<void> {
    return this.#done({ method: 'DELETE', path: `/v1/invitations/${encodeURIComponent(invitation)}` });
  }

  join(body: JoinRequest): Promise<Joined> {
    return this.#json({ method: 'POST', path: '/v1/joins', body });
  }

  mirrors(): Promise<readonly Mirror[]> {
    return this.#json({ method: 'GET', path: '/v1/mirrors' });
  }

  addMirror(body: AddMirrorRequest): Promise<void> {
    return this.#done({ method: 'POST', path: '/v1/mirrors', body });
  }

  changeMirror(tree: string, from: string | undefined, body: ChangeMirrorRequest): Promise<void> {
    return this.#done({ method: 'PATCH', path: `/v1/mirrors/${encodeURIComponent(tree)}`, query: { from }, body });
  }

  removeMirror(tree: string, from?: string): Promise<void> {
    return this.#done({ method: 'DELETE', path: `/v1/mirrors/${encodeURIComponent(tree)}`, query: { from } });
  }

  plan(tree: string, from?: string): Promise<Plan> {
    return this.#json({ method: 'GET', path: `/v1/mirrors/${encodeURIComponent(tree)}/plan`, query: { from } });
  }

  async graph(
    tree: string,
    query: { readonly node?: string | undefined; readonly at?: number | undefined },
  ): Promise<Graph> {
    const path = `/v1/graphs/${encodeURIComponent(tree)}`;
    return decodeGraph(await this.#json<WireGraph>({ method: 'GET', path, query: { ...query } }));
  }

  snapshot(body: SnapshotRequest): Promise<void> {
    return this.#done({ method: 'POST', path: '/v1/snapshot', body });
  }

  clone(body: CloneRequest): Promise<void> {
    return this.#done({ method: 'POST', path: '/v1/clone', body });
  }

  rename(body: RenameRequest): Promise<void> {
    return this.#done({ method: 'POST', path: '/v1/rename', body });
  }

  promote(body: PromoteRequest): Promise<void> {
    return this.#done({ method: 'POST', path: '/v1/promote', body });
  }

  own(body: OwnRequest): Promise<Taken> {
    return this.#json({ method: 'POST', path: '/v1/own', body });
  }

  rollback(body: RollbackRequest): Promise<void> {
    return this.#done({ method: 'POST', path: '/v1/rollback', body });
  }

  diverged(tree: string): Promise<readonly DivergedCopy[]> {
    return this.#json({ method: 'GET', path: `/v1/diverged/${encodeURIComponent(tree)}` });
  }

  restoreDiverged(tree: string, copy: string, name: string): Promise<void> {
    return this.#done({ method: 'POST', path: divergedPath(tree, copy), body: { name } });
  }

  dropDiverged(tree: string, copy: string): Promise<void> {
    return this.#done({ method: 'DELETE', path: divergedPath(tree, copy) });
  }

  destroy(body: DestroyRequest): Promise<void> {
    return this.#done({ method: 'POST', path: '/v1/destroy', body });
  }

  /** Syncs a mirror; `signal` cancels it, and then this rejects with `CALL_CANCELLED`. */
  async sync(
    tree: string,
    options: {
      readonly from?: string | undefined;
      readonly refresh: boolean;
      readonly bytesPerSecond?: number | undefined;
      readonly signal: AbortSignal;
      readonly onPlan: (plan: Plan) => void;
      readonly onProgress: (progress: TransferProgress) => void;
    },
  ): Promise<SyncReport> {
    const { from, refresh, bytesPerSecond, signal, onPlan, onProgress } = options;
    const path = `/v1/mirrors/${encodeURIComponent(tree)}/sync`;
    let plan: Plan | undefined;
    for await (const line of this.#lines<SyncLine>({
      method: 'POST',
      path,
      query: { from },
      body: { refresh, bytesPerSecond },
      signal,
    })) {
      if (line.type === 'plan') {
        plan = line.plan;
        onPlan(plan);
      } else if (line.type === 'progress') onProgress(line.progress);
      else if (line.type === 'error') throw line.error;
      else if (plan !== undefined) return { ...line.report, plan };
    }
    throw this.#cutShort();
  }

  /** Verifies a tree; `signal` stops waiting for it. */
  async verify(tree: string, signal: AbortSignal): Promise<TreeVerification> {
    const path = `/v1/trees/${encodeURIComponent(tree)}/verify`;
    for await (const line of this.#lines<VerifyLine>({ method: 'POST', path, body: {}, signal })) {
      if (line.type === 'error') throw line.error;
      return line.verification;
    }
    throw this.#cutShort();
  }

  /** The events of a log in order; with `follow` without end, until the signal is aborted. */
  async *log(query: {
    readonly tree?: string | undefined;
    readonly node?: string | undefined;
    readonly from?: number | undefined;
    readonly transfers?: boolean;
    readonly follow: boolean;
    readonly signal: AbortSignal;
  }): AsyncGenerator<Event> {
    const { signal, ...range } = query;
    for await (const line of this.#lines<LogLine>({ method: 'GET', path: '/v1/log', query: range, signal })) {
      if (line.type === 'error') throw line.error;
      if (line.type === 'result') return;
      yield line.event;
    }
    throw this.#cutShort();
  }

  async #json<Result>(call: Call): Promise<Result> {
    return parseJson(await this.#text(await this.#answer(call))) as Result;
  }

  async #done(call: Call): Promise<void> {
    await this.#text(await this.#answer(call));
  }

  async *#lines<Line>(call: Call): AsyncGenerator<Line> {
    const { body } = await this.#answer(call);
    try {
      for await (const line of splitLines(body)) yield parseJson(line) as Line;
    } catch (error) {
      throw this.#failure(error, call.signal);
    }
  }

  async *#bytes(call: Call): AsyncGenerator<Uint8Array> {
    const { body } = await this.#answer(call);
    try {
      yield* body as AsyncIterable<Uint8Array>;
    } catch (error) {
      throw this.#failure(error, call.signal);
    }
  }

  async #answer({ method, path, query = {}, body, signal }: Call): Promise<Answer> {
    const known = Object.entries(query).filter(([, value]) => value !== undefined);
    const answer = await this.#pool
      .request({
        method,
        path,
        query: Object.fromEntries(known),
        ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
        ...(signal === undefined ? {} : { signal }),
      })
      .catch((error: unknown) => {
        throw this.#failure(error, signal);
      });
    if (answer.statusCode < 300) return answer;
    const error = parseJson(await this.#text(answer));
    throw isPandoError(error) ? error : this.#failure(new Error(`status ${answer.statusCode}`), signal);
  }

  async #text({ body }: Answer): Promise<string> {
    try {
      return await body.text();
    } catch (error) {
      throw this.#failure(error, undefined);
    }
  }

  #cutShort(): PandoError {
    return this.#failure(new Error('it ended in the middle of an answer'), undefined);
  }

  #failure(error: unknown, signal: AbortSignal | undefined): PandoError {
    if (isPandoError(error)) return error;
    if (signal?.aborted === true) return new PandoError('CALL_CANCELLED', 'Cancelled.', {}, { cause: error });
    const socket = this.#socket;
    const { code } = error as NodeJS.ErrnoException;
    const message =
      code === 'ENOENT' || code === 'ECONNREFUSED'
        ? `No pando is running (no socket at ${socket}); start it with "pando serve".`
        : `The pando at ${socket} did not answer: ${describeError(error)}.`;
    return new PandoError('DAEMON_UNREACHABLE', message, { socket }, { cause: error });
  }
}

/** Complete lines of a text that comes in chunks; a line of many chunks (a large plan) is put together once. */
async function* splitLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let parts: string[] = [];
  for await (const chunk of chunks) {
    const [first = '', ...others] = decoder.decode(chunk, { stream: true }).split('\n');
    parts.push(first);
    for (const other of others) {
      yield parts.join('');
      parts = [other];
    }
  }
}

function divergedPath(tree: string, copy: string): string {
  return `/v1/diverged/${encodeURIComponent(tree)}/${encodeURIComponent(copy)}`;
}
