/** What Linux's `modalias` of a PCI function is made of. */
export interface PciModalias {
  readonly vendor: number;
  readonly device: number;
  readonly subvendor: number;
  readonly subdevice: number;
  /** 24 bits: base class, sub-class, programming interface */
  readonly class: number;
}

const upper = (value: number, digits: number): string => value.toString(16).toUpperCase().padStart(digits, "0");

/** `pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00` */
export const pciModalias = ({ vendor, device, subvendor, subdevice, class: code }: PciModalias): string =>
  `pci:v${upper(vendor, 8)}d${upper(device, 8)}sv${upper(subvendor, 8)}sd${upper(subdevice, 8)}` +
  `bc${upper((code >>> 16) & 0xff, 2)}sc${upper((code >>> 8) & 0xff, 2)}i${upper(code & 0xff, 2)}`;

/** `virtio:d00000001v00001AF4` @param deviceType 1 for a network card */
export const virtioModalias = (deviceType: number, vendor: number): string =>
  `virtio:d${upper(deviceType, 8)}v${upper(vendor, 8)}`;
