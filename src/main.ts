#!/usr/bin/env node
/** The `pando` command. With `src/main/` the only place that constructs adapters and reads the process's own streams and signals. */
import { runProgram } from './interfaces/cli/program.ts';
import { HttpClient } from './interfaces/http/client.ts';
import { loadConfig } from './main/config.ts';
import { readPassphrase } from './main/passphrase.ts';
import { rotateKey } from './main/rotation.ts';
import { softwareVersion } from './main/version.ts';
import { readIdentity } from './sync/identity.ts';

/** Where the width of the terminal is not known. */
const DEFAULT_COLUMNS = 80;

process.exitCode = await runProgram(process.argv.slice(2), {
  version: softwareVersion(),
  // Loaded only for the daemon: the other commands answer in a fraction of the time without LevelDB, TLS and the HTTP server.
  serve: async (configPath) => (await import('./main/serve.ts')).serve(configPath),
  client: (socket) => new HttpClient(socket),
  readIdentity: async (configPath) => {
    const config = await loadConfig(configPath);
    return (await readIdentity(config.dataDirectory, await readPassphrase(config)))?.node ?? null;
  },
  rotateKey: async (configPath) => rotateKey(await loadConfig(configPath)),
  loadConfig,
  stdout: process.stdout,
  stderr: process.stderr,
  isTTY: process.stdout.isTTY === true && process.stderr.isTTY === true,
  columns: () => process.stdout.columns ?? DEFAULT_COLUMNS,
  now: Date.now,
  onInterrupt: (listener) => {
    process.on('SIGINT', listener);
    return () => process.off('SIGINT', listener);
  },
});
