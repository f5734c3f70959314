/**
 * Names and numbers of PCI Express: Base Specification 3.0, §7.8 (capability) and §7.9–7.10 (extended capabilities). Names are
 * those of pci_regs.h; offsets are from the start of the capability.
 */

// ------------------------------------------------------------------------------------------------ the capability, §7.8

export const PCI_EXP_FLAGS = 2;
export const PCI_EXP_FLAGS_VERS = 0x000f;
export const PCI_EXP_FLAGS_TYPE = 0x00f0;
export const PCI_EXP_TYPE_ENDPOINT = 0x0;
export const PCI_EXP_TYPE_ROOT_PORT = 0x4;
export const PCI_EXP_TYPE_RC_END = 0x9;
export const PCI_EXP_FLAGS_SLOT = 0x0100;
export const PCI_EXP_DEVCAP = 4;
export const PCI_EXP_DEVCAP_RBER = 0x0000_8000;
export const PCI_EXP_DEVCAP_FLR = 0x1000_0000;
export const PCI_EXP_DEVCTL = 8;
/** relaxed ordering, no snoop, read requests of 512 bytes */
export const PCI_EXP_DEVCTL_RESET = 0x2810;
export const PCI_EXP_DEVCTL_BCR_FLR = 0x8000;
export const PCI_EXP_DEVSTA = 10;
export const PCI_EXP_DEVSTA_CED = 0x0001;
export const PCI_EXP_DEVSTA_NFED = 0x0002;
export const PCI_EXP_DEVSTA_FED = 0x0004;
export const PCI_EXP_DEVSTA_URD = 0x0008;
export const PCI_EXP_LNKCAP = 12;
/** 2.5 GT/s, one lane, ASPM L0s: as QEMU's ports and endpoints */
export const PCI_EXP_LNKCAP_2_5GB_X1 = 0x0000_0411;
export const PCI_EXP_LNKCAP_DLLLARC = 0x0010_0000;
export const PCI_EXP_LNKCTL = 16;
export const PCI_EXP_LNKSTA = 18;
export const PCI_EXP_LNKSTA_2_5GB_X1 = 0x0011;
export const PCI_EXP_LNKSTA_DLLLA = 0x2000;
export const PCI_EXP_SLTCAP = 20;
/** attention button, power controller, both indicators, surprise, hot-plug */
export const PCI_EXP_SLTCAP_HOTPLUG = 0x0000_007b;
/** electromechanical interlock */
export const PCI_EXP_SLTCAP_EIP = 0x0002_0000;
export const PCI_EXP_SLTCTL = 24;
export const PCI_EXP_SLTCTL_HPIE = 0x0020;
export const PCI_EXP_SLTCTL_AIC_OFF = 0x00c0;
export const PCI_EXP_SLTCTL_PIC_ON = 0x0100;
export const PCI_EXP_SLTCTL_PIC_OFF = 0x0300;
/** set: power off */
export const PCI_EXP_SLTCTL_PCC = 0x0400;
export const PCI_EXP_SLTCTL_EIC = 0x0800;
export const PCI_EXP_SLTCTL_DLLSCE = 0x1000;
export const PCI_EXP_SLTSTA = 26;
export const PCI_EXP_SLTSTA_ABP = 0x0001;
export const PCI_EXP_SLTSTA_PFD = 0x0002;
export const PCI_EXP_SLTSTA_MRLSC = 0x0004;
export const PCI_EXP_SLTSTA_PDC = 0x0008;
export const PCI_EXP_SLTSTA_CC = 0x0010;
export const PCI_EXP_SLTSTA_PDS = 0x0040;
export const PCI_EXP_SLTSTA_EIS = 0x0080;
export const PCI_EXP_SLTSTA_DLLSC = 0x0100;
export const PCI_EXP_RTCTL = 28;
export const PCI_EXP_RTSTA = 32;
export const PCI_CAP_EXP_SIZEOF = 60;

// ------------------------------------------------------------------------------------------------ error reporting, §7.10

export const PCI_EXT_CAP_ID_ERR = 0x0001;
export const PCI_ERR_UNCOR_STATUS = 0x04;
export const PCI_ERR_UNCOR_MASK = 0x08;
export const PCI_ERR_UNCOR_SEVER = 0x0c;
/** the errors that are defined: bits 4, 5 and 12 … 25 */
export const PCI_ERR_UNCOR_DEFINED = 0x03ff_f030;
export const PCI_ERR_UNC_UNSUP = 0x0010_0000;
export const PCI_ERR_UNC_INTN = 0x0040_0000;
/** those that are fatal after reset */
export const PCI_ERR_UNCOR_SEVER_RESET = 0x0046_2030;
export const PCI_ERR_COR_STATUS = 0x10;
export const PCI_ERR_COR_MASK = 0x14;
/** bits 0, 6, 7, 8 and 12 … 15 */
export const PCI_ERR_COR_DEFINED = 0x0000_f1c1;
export const PCI_ERR_COR_MASK_RESET = 0x0000_e000;
export const PCI_ERR_CAP = 0x18;
export const PCI_ERR_CAP_FEP = 0x1f;
export const PCI_ERR_HEADER_LOG = 0x1c;
export const PCI_ERR_ROOT_COMMAND = 0x2c;
export const PCI_ERR_ROOT_STATUS = 0x30;
export const PCI_ERR_ROOT_ERR_SRC = 0x34;
export const PCI_ERR_SIZEOF = 0x48;

// ------------------------------------------------------------------------------------------------ ports

/** QEMU's `pcie-root-port` */
export const PCI_DEVICE_ID_REDHAT_PCIE_RP = 0x000c;
