/** Quantities as people read them. Programs get plain numbers. */

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;
const BYTES_PER_UNIT = 1024;
const MS_PER_SECOND = 1000;
const DURATION_UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
] as const;

/** Bytes with the binary prefix that keeps the number below 1024 (IEC 80000-13). */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= BYTES_PER_UNIT && unit < BYTE_UNITS.length - 1) {
    value /= BYTES_PER_UNIT;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${BYTE_UNITS[unit]}`;
}

/** A span of time in its two greatest units: `2 d 3 h`, `4 min 5 s`, `0.4 s`. */
export function formatDuration(ms: number): string {
  const seconds = ms / MS_PER_SECOND;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const parts: string[] = [];
  let rest = Math.round(seconds);
  for (const [name, size] of DURATION_UNITS) {
    if (rest >= size || parts.length > 0) parts.push(`${Math.floor(rest / size)} ${name}`);
    rest %= size;
  }
  parts.push(`${rest} s`);
  return parts.slice(0, 2).join(' ');
}

/** `1 step`, `3 steps`. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** A moment in UTC, to the second. */
export function formatTime(unixMs: number): string {
  return `${new Date(unixMs).toISOString().slice(0, 19).replace('T', ' ')}Z`;
}

/** How long ago a moment was. */
export function formatAge(unixMs: number, now: number): string {
  return `${formatDuration(Math.max(0, now - unixMs))} ago`;
}

/** How long something is kept; null is for ever. */
export function formatGrace(ms: number | null): string {
  return ms === null ? 'for ever' : `for ${formatDuration(ms)}`;
}

/** A dataset of a tree as people write it. */
export function formatPlace(tree: string, name: string): string {
  return name === '' ? tree : `${tree}/${name}`;
}
