echo x >>@DIR@/ran
