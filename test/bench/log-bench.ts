/** How fast the log is: what a node appends, replays and opens. Each function measures one thing and says what it found. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chainHash, genesisHash, type Head, type Signer, signHead } from '../../src/core/codec/chain.ts';
import { encodeEvent } from '../../src/core/codec/event-codec.ts';
import { EVENT_VERSION, type EventBody, type KnownEvent } from '../../src/core/events.ts';
import type { DatasetId, DatasetName, RelativeName, SnapshotGuid, SnapshotName, TreeName } from '../../src/core/ids.ts';
import { History } from '../../src/log/history.ts';
import { LevelLog } from '../../src/log/level-log.ts';
import { benchSigner } from './bench-signer.ts';
