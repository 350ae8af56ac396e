/**
 * The messages of `snapshots.proto` as they are here after decoding and before encoding: absent texts and lists are empty, an absent message
 * is null. The name of the snapshotter is in every request and left out here: this service is one snapshotter, however it is called.
 */
import type { Labels } from '../../core/snapshots/snapshot.ts';

export interface TimestampMessage {
  /** Unix seconds. */
  readonly seconds: number;
  /** 0 to 999,999,999, also before 1970. */
  readonly nanos: number;
}

export interface MountMessage {
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

export interface InfoMessage {
  readonly name: string;
  readonly parent: string;
  readonly kind: 'VIEW' | 'ACTIVE' | 'COMMITTED';
  readonly createdAt: TimestampMessage;
  readonly updatedAt: TimestampMessage;
  readonly labels: Labels;
}

export interface KeyRequest {
  readonly key: string;
}

/** Of Prepare and View. */
export interface CreateRequest {
  readonly key: string;
  readonly parent: string;
  readonly labels: Labels;
}

export interface CommitRequest {
  readonly name: string;
  readonly key: string;
  readonly labels: Labels;
}

export interface UpdateRequest {
  readonly info: Pick<InfoMessage, 'name' | 'labels'> | null;
  readonly updateMask: { readonly paths: readonly string[] } | null;
}

export interface ListRequest {
  readonly filters: readonly string[];
}

export interface MountsResponse {
  readonly mounts: readonly MountMessage[];
}

export interface InfoResponse {
  readonly info: InfoMessage;
}

export interface ListResponse {
  readonly info: readonly InfoMessage[];
}

export interface UsageResponse {
  readonly size: number;
  readonly inodes: number;
}

export type Empty = Readonly<Record<string, never>>;
