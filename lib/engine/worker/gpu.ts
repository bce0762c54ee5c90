import { AutoglmError } from '../../errors';
import type { DriverReport, GpuDescription, NativeAddon } from '../../native/addon';
import { fromNativeError } from '../../native/native-error';
import type { GpuInfo } from '../device-types';

/** A GPU that models are computed on. */
export interface Gpu {
  readonly description: GpuDescription;
  /** The driver's name or path; null for the usual one. */
  readonly library: string | null;
}

/** OPEN_AUTOGLM_CUDA_DRIVER names another driver library than the system's. */
export const driverLibrary = (): string | null => process.env.OPEN_AUTOGLM_CUDA_DRIVER || null;

/**
 * `indices` are the driver's numbers; null takes all GPUs that can be used. Throws `invalid_parameter`, saying what there
 * is.
 */
export function chooseGpus(addon: NativeAddon, indices: readonly number[] | null): readonly Gpu[] {
  const library = driverLibrary();
  const report = addon.describeGpus?.(library);
  if (report === undefined) throw new AutoglmError('internal', 'the binary has no CUDA code');
  const usable = report.status === 'ready' ? report.devices.filter(({ isSupported }) => isSupported) : [];
  if (indices === null && usable.length === 0) throw unusable(report, null);
  const descriptions =
    indices === null
      ? usable
      : indices.map((index) => {
          const description = usable.find((gpu) => gpu.index === index);
          if (description === undefined) throw unusable(report, index);
          return description;
        });
  return descriptions.map((description) => ({ description, library }));
}

function unusable(report: DriverReport, index: number | null): AutoglmError {
  const found = report.devices.map(
    ({ index: number, name, computeCapability, isSupported }) =>
      `cuda:${number} ${name}, compute capability ${computeCapability / 10}${isSupported ? '' : ', not supported'}`,
  );
  const wanted = index === null ? 'a GPU' : `GPU ${index}`;
  const problem = report.problem || `it has no ${wanted} that can be used`;
  return new AutoglmError(
    'invalid_parameter',
    `device: expected ${wanted} that the CUDA driver (${report.library}) can use: ${problem}`,
    {
      hint: report.remedy || `Choose one of: ${found.join('; ') || 'none'}.`,
      details: { path: 'device', status: report.status, driverVersion: report.driverVersion, found },
    },
  );
}

export const gpuName = ({ description }: Gpu): `cuda:${number}` => `cuda:${description.index}`;

export function gpuInfo({ description }: Gpu): GpuInfo {
  const { index, name, uuid, computeCapability, totalBytes } = description;
  return { index, name, uuid, computeCapability, totalBytes };
}

/** What the driver keeps for graphs and modules, and others may still take. */
const RESERVE_BYTES = 512 * 2 ** 20;
const RESERVE_SHARE = 0.05;

/** Bytes of the GPU that a model may take. */
export function gpuFreeMemory(addon: NativeAddon, { description, library }: Gpu): number {
  try {
    const { freeBytes = 0, totalBytes = 0 } = addon.gpuMemory?.(description.index, library) ?? {};
    const reserve = Math.min(RESERVE_BYTES, RESERVE_SHARE * totalBytes);
    return Math.max(0, freeBytes - reserve);
  } catch (error) {
    throw fromNativeError(error);
  }
}
