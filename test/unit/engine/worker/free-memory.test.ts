import { freemem } from 'node:os';
import { describe, expect, test } from 'vitest';
import { freeMemory } from '../../../../lib/engine/worker/free-memory';

const reader =
  (files: Readonly<Record<string, string>>) =>
  (path: string): string | null =>
    files[path] ?? null;

const MEMINFO = 'MemTotal:       32000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n';

describe('free memory', () => {
  test('is what the system calls available where no group sets a limit', () => {
    expect(freeMemory(reader({ '/proc/meminfo': MEMINFO }))).toBe(8_000_000 * 1024);
    const unlimited = { '/sys/fs/cgroup/memory.max': 'max\n', '/sys/fs/cgroup/memory.current': '5000\n' };
    expect(
      freeMemory(reader({ '/proc/meminfo': MEMINFO, '/proc/self/cgroup': '0::/\n', ...unlimited })),
    ).toBe(8_000_000 * 1024);
  });

  test('is what the tightest group above the process leaves, file cache not counted (version 2)', () => {
    const files = {
      '/proc/meminfo': MEMINFO,
      '/proc/self/cgroup': '0::/outer/inner\n',
      '/sys/fs/cgroup/outer/memory.max': '1000000\n',
      '/sys/fs/cgroup/outer/memory.current': '700000\n',
      '/sys/fs/cgroup/outer/memory.stat':
        'anon 300000\nactive_file 100000\ninactive_file 250000\nfile 360000\n',
      '/sys/fs/cgroup/outer/inner/memory.max': '5000000\n',
      '/sys/fs/cgroup/outer/inner/memory.current': '100\n',
    };
    expect(freeMemory(reader(files))).toBe(1_000_000 - (700_000 - 350_000));
  });

  test('reads version 1 groups, whose totals include their children', () => {
    const files = {
      '/proc/meminfo': MEMINFO,
      '/proc/self/cgroup': '5:devices:/\n4:memory:/job\n0::/\n',
      '/sys/fs/cgroup/memory/job/memory.limit_in_bytes': '2000000\n',
      '/sys/fs/cgroup/memory/job/memory.usage_in_bytes': '1500000\n',
      '/sys/fs/cgroup/memory/job/memory.stat':
        'active_file 1\ninactive_file 2\ntotal_active_file 100\ntotal_inactive_file 200\n',
      '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
      '/sys/fs/cgroup/memory/memory.usage_in_bytes': '1600000\n',
    };
    expect(freeMemory(reader(files))).toBe(2_000_000 - (1_500_000 - 300));
  });

  test('is never negative, and falls back to the platform where there is no /proc', () => {
    const full = {
      '/proc/meminfo': MEMINFO,
      '/proc/self/cgroup': '0::/',
      '/sys/fs/cgroup/memory.max': '100',
      '/sys/fs/cgroup/memory.current': '200',
    };
    expect(freeMemory(reader(full))).toBe(0);
    expect(freeMemory(() => null)).toBeGreaterThan(0.2 * freemem());
  });
});
