import { test } from "uvu";
import * as assert from "uvu/assert";
import { pciModalias, virtioModalias } from "./modalias.js";

test("PRB-076 eight upper-case digits an id, two a part of the class", () => {
  const virtio = { vendor: 0x1af4, device: 0x1000, subvendor: 0x1af4, subdevice: 1, class: 0x02_00_00 };
  assert.is(pciModalias(virtio), "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00");
  const rtl8169 = { vendor: 0x10ec, device: 0x8169, subvendor: 0, subdevice: 0xffff_ffff, class: 0x0c_03_fe };
  assert.is(pciModalias(rtl8169), "pci:v000010ECd00008169sv00000000sdFFFFFFFFbc0Csc03iFE");
  assert.is(virtioModalias(1, 0x1af4), "virtio:d00000001v00001AF4");
});

test.run();
