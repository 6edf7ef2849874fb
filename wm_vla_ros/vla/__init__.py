"""The slow loop: any LeRobot policy behind one adapter, and the small policy that ships with the stack."""
