import { unixMsOf } from '../../core/clock.ts';
import type { Event } from '../../core/events.ts';
import type { CommandContext } from './command-context.ts';
import type { DaemonClient } from './daemon-client.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';

type Query = Omit<Parameters<DaemonClient['log']>[0], 'signal'>;

/** Reads events of a log until there are no more, nobody reads what is written of them, or Ctrl-C. */
export function readEvents(context: CommandContext, query: Query, write: (event: Event) => void): Promise<ExitCode> {
  return context.interruptible(async (signal) => {
    try {
      const client = await context.client();
      for await (const event of client.log({ ...query, signal })) {
        write(event);
        if (!(await context.output.drained())) break;
      }
      return EXIT.ok;
    } catch (error) {
      // How people end what they follow: nothing to complain about.
      if (signal.aborted) return EXIT.interrupted;
      throw error;
    }
  });
}

/** An event as programs get it: with its time as a text, too. */
export function withTime(event: Event): object {
  return { ...event, time: new Date(unixMsOf(event.at)).toISOString() };
}
