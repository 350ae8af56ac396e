import type { Writable } from 'node:stream';
import type { NodeId } from '../../core/ids.ts';
import type { DaemonClient } from './daemon-client.ts';

/** What the commands need from outside; `main.ts` brings the real ones. */
export interface CliDependencies {
  /** Version of this software. */
  readonly version: string;
  /** Runs a node until it is told to stop. `configPath` is undefined for the default place. */
  readonly serve: (configPath: string | undefined) => Promise<void>;
  readonly client: (socket: string) => DaemonClient;
  /** The id of the node with that configuration, or null when it has not run yet. */
  readonly readIdentity: (configPath: string | undefined) => Promise<NodeId | null>;
  /** Gives the node with that configuration a new key from its next start on; resolves with how many it has had. */
  readonly rotateKey: (configPath: string | undefined) => Promise<number>;
  readonly loadConfig: (
    configPath: string | undefined,
  ) => Promise<{ readonly socket: string; readonly dataDirectory: string }>;
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** Whether a person sees both outputs on a terminal. */
  readonly isTTY: boolean;
  /** Width of the terminal in characters. */
  readonly columns: () => number;
  /** Wall clock in Unix ms. */
  readonly now: () => number;
  /** Has `listener` called when the person presses Ctrl-C, instead of ending the process. Returns the way to end that. */
  readonly onInterrupt: (listener: () => void) => () => void;
}
