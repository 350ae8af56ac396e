/** Rates as people write them: bytes a second. */
import { PandoError } from './errors.ts';

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };
/** Slower than this a stream could as well be stopped. */
const RATE_MIN = 1024;
/** A terabyte a second: no link of this time. */
const RATE_MAX = 1024 ** 4;

/** Reads `20M`, `512K`, `1.5G` or a number of bytes, each a second, with K = 1024. Throws `ARGUMENT_INVALID`. */
export function parseRate(text: string): number {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?)([kmg]?)(?:i?b)?(?:\/s)?$/i.exec(text) ?? [];
  const rate = Math.round(Number(digits) * (UNITS[unit.toLowerCase()] ?? 1));
  if (digits !== '' && isRate(rate)) return rate;
  throw new PandoError(
    'ARGUMENT_INVALID',
    `"${text}" is no rate between 1 KiB and 1 TiB a second; write 512K, 20M or 1G.`,
    { rate: text },
  );
}

/** Whether that many bytes a second can be a limit. */
export function isRate(bytesPerSecond: number): boolean {
  return Number.isSafeInteger(bytesPerSecond) && bytesPerSecond >= RATE_MIN && bytesPerSecond <= RATE_MAX;
}
