/**
 * What all promises bring, in their order, once each of them has ended; rejects then with what the first of them, in that order, was rejected with. For work that goes on beside the one that
 * failed, and that nobody may overtake. `afterwards` runs once all have ended, whether they failed or not; what it is rejected with goes before.
 */
export async function allEnded<Value>(
  promises: readonly Promise<Value>[],
  afterwards: () => Promise<unknown> = async () => undefined,
): Promise<Value[]> {
  const results = await Promise.allSettled(promises);
  await afterwards();
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}
