"""What can be packed: FER2013's CSV with or without FER+ votes, image folders, synthetic faces."""
