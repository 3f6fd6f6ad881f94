"""What people have: CSV files, image folders, synthetic faces."""
