/** The methods of containerd's snapshots service, on Pando's own. */
import type { handleServerStreamingCall, handleUnaryCall } from '@grpc/grpc-js';
import type { SnapshotService } from '../../features/snapshots/snapshot-service.ts';
import type { Answering } from './answering.ts';
import { infoMessage, mountsResponse, optionalParent, required, usageResponse } from './conversion.ts';
import { snapshotList } from './list.ts';
import type {
  CommitRequest,
  CreateRequest,
  Empty,
  InfoResponse,
  KeyRequest,
  ListRequest,
  ListResponse,
  MountsResponse,
  UpdateRequest,
  UsageResponse,
} from './messages.ts';

/** One handler for each method of `snapshots.proto`. */
export type SnapshotsApi = {
  readonly Prepare: handleUnaryCall<CreateRequest, MountsResponse>;
  readonly View: handleUnaryCall<CreateRequest, MountsResponse>;
  readonly Mounts: handleUnaryCall<KeyRequest, MountsResponse>;
  readonly Commit: handleUnaryCall<CommitRequest, Empty>;
  readonly Remove: handleUnaryCall<KeyRequest, Empty>;
  readonly Stat: handleUnaryCall<KeyRequest, InfoResponse>;
  readonly Update: handleUnaryCall<UpdateRequest, InfoResponse>;
  readonly List: handleServerStreamingCall<ListRequest, ListResponse>;
  readonly Usage: handleUnaryCall<KeyRequest, UsageResponse>;
  readonly Cleanup: handleUnaryCall<Empty, Empty>;
};

export function snapshotsApi(snapshots: SnapshotService, answering: Answering): SnapshotsApi {
  return {
    Prepare: answering.once(async ({ key, parent, labels }) =>
      mountsResponse(await snapshots.prepare(required(key, 'key'), optionalParent(parent), labels)),
    ),
    View: answering.once(async ({ key, parent, labels }) =>
      mountsResponse(await snapshots.view(required(key, 'key'), optionalParent(parent), labels)),
    ),
    Mounts: answering.once(async ({ key }) => mountsResponse(await snapshots.mounts(required(key, 'key')))),
    Commit: answering.once(async ({ name, key, labels }) => {
      await snapshots.commit(required(name, 'name'), required(key, 'key'), labels);
      return {};
    }),
    Remove: answering.once(async ({ key }) => {
      await snapshots.remove(required(key, 'key'));
      return {};
    }),
    Stat: answering.once(async ({ key }) => ({ info: infoMessage(await snapshots.stat(required(key, 'key'))) })),
    Update: answering.once(async ({ info, updateMask }) => {
      const key = required(info?.name ?? '', 'name');
      return { info: infoMessage(await snapshots.update(key, info?.labels ?? {}, updateMask?.paths ?? [])) };
    }),
    List: answering.many(({ filters }) => snapshotList(snapshots, filters)),
    Usage: answering.once(async ({ key }) => usageResponse(await snapshots.usage(required(key, 'key')))),
    Cleanup: answering.once(async () => {
      await snapshots.cleanup();
      return {};
    }),
  };
}
