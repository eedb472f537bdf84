/** The machine does not look at sleepers again until something has happened to them; nobody is overlooked by that in guest programs. */
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { verifyPrograms } from '../../src/index.ts';
import { Scheduler } from '../../src/machine/scheduler.ts';
import { ROOT } from '../cli/spawn.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

it('a search of all vCPUs finds the same one', async () => {
  const pick = Scheduler.prototype.pick;
  let picks = 0;
  const overlooked: number[] = [];
  vi.spyOn(Scheduler.prototype, 'pick').mockImplementation(function (this: Scheduler, isRunnable, stirred) {
    const twin = this.copy();
    const index = pick.call(this, isRunnable, stirred);
    if (index !== pick.call(twin, isRunnable)) overlooked.push(picks);
    picks++;
    return index;
  });
  const folders = ['apicv', 'pv', 'smp', 'timer'].map((folder) => join(ROOT, 'guest', folder));
  const report = await verifyPrograms(folders, { kvm: '7.1' });
  expect(report.pass).toBe(true);
  expect(picks).toBeGreaterThan(1000);
  expect(overlooked).toEqual([]);
});
